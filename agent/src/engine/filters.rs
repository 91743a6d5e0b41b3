//! Docker's filters as people write them, "until=24h" or "label!=keep", as the JSON that the engine's
//! queries take. What a filter may be called and mean is the engine's to say. Pure.

use std::collections::BTreeMap;

use dockctl_api::error::bad_field;
use tonic::Status;

use super::query::Query;

/// The engine's JSON for these filters; `field` names them in an error.
pub(super) fn json(field: &str, filters: &[String]) -> Result<String, Status> {
    Ok(serde_json::json!(parse(field, filters)?).to_string())
}

/// The values of each filter.
pub(super) fn parse(
    field: &str,
    filters: &[String],
) -> Result<BTreeMap<String, Vec<String>>, Status> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for filter in filters {
        let (name, value) = match filter.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => (name, value),
            _ => {
                let sentence = format!("{filter:?}: bad format of filter (expected name=value)");
                return Err(bad_field(field, sentence));
            }
        };
        all.entry(name.trim().to_lowercase()).or_default().push(value.trim().to_owned());
    }
    Ok(all)
}

/// A path with the filters of a request behind it.
pub(super) fn on(path: &str, filters: &[String]) -> Result<String, Status> {
    let mut query = Query::default();
    query.add("filters", &json("filters", filters)?);
    Ok(query.on(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_docker_reads_them() {
        let json = |filters: &[&str]| {
            json("filters", &filters.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(json(&[]).unwrap(), "{}");
        assert_eq!(
            json(&["Until=24h", "label=a=b", "label=c", "label!=keep"]).unwrap(),
            r#"{"label":["a=b","c"],"label!":["keep"],"until":["24h"]}"#
        );
        for bad in ["until", "", "=x"] {
            assert!(json(&[bad]).unwrap_err().message().contains("bad format of filter"), "{bad}");
        }
    }
}
