//! `system df` as docker counts and prints it, from the engine's own JSON.

use serde_json::Value;

use crate::{
    format::Row,
    moment,
    output::{
        human,
        table::{Cell, Table},
    },
};

/// What of one kind there is, and how much of it nothing uses.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
}

fn list<'a>(usage: &'a Value, key: &str) -> &'a [Value] {
    usage[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A size; the engine writes -1 where it does not know one.
fn size(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0).max(0)
}

fn images(usage: &Value) -> Sum {
    let all = list(usage, "Images");
    let active = all.iter().filter(|i| i["Containers"].as_i64().unwrap_or(0) > 0);
    let used = active
        .clone()
        .filter(|i| i["Size"].as_i64() != Some(-1) && i["SharedSize"].as_i64() != Some(-1))
        .map(|i| size(&i["Size"]) - size(&i["SharedSize"]))
        .fold(0, i64::saturating_add);
    let layers = size(&usage["LayersSize"]);
    let reclaimable = layers.saturating_sub(used);
    Sum { total: all.len(), active: active.count(), size: layers, reclaimable }
}

fn containers(usage: &Value) -> Sum {
    let active =
        |c: &Value| matches!(c["State"].as_str(), Some("running" | "paused" | "restarting"));
    sum(list(usage, "Containers"), active, |c| size(&c["SizeRw"]))
}

fn volumes(usage: &Value) -> Sum {
    let active = |v: &Value| size(&v["UsageData"]["RefCount"]) > 0;
    sum(list(usage, "Volumes"), active, |v| size(&v["UsageData"]["Size"]))
}

fn cache(usage: &Value) -> Sum {
    let shared = |c: &Value| c["Shared"].as_bool().unwrap_or(false);
    let active = |c: &Value| c["InUse"].as_bool().unwrap_or(false);
    sum(list(usage, "BuildCache"), active, |c| if shared(c) { 0 } else { size(&c["Size"]) })
}

fn sum(all: &[Value], active: impl Fn(&Value) -> bool, size: impl Fn(&Value) -> i64) -> Sum {
    let idle = |v: &&Value| !active(v);
    Sum {
        total: all.len(),
        active: all.iter().filter(|v| active(v)).count(),
        size: all.iter().map(&size).fold(0, i64::saturating_add),
        reclaimable: all.iter().filter(idle).map(&size).fold(0, i64::saturating_add),
    }
}

fn bytes(size: i64) -> String {
    human::decimal_size(u64::try_from(size).unwrap_or(0), 4)
}

/// The columns of `system df`, under docker's names.
pub(super) const COLUMNS: [(&str, &str); 5] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

fn cells(usage: &Value) -> impl Iterator<Item = [String; 5]> {
    let sums = [
        ("Images", images(usage), true),
        ("Containers", containers(usage), true),
        ("Local Volumes", volumes(usage), true),
        ("Build Cache", cache(usage), false),
    ];
    sums.into_iter().map(|(kind, sum, percent)| {
        let mut reclaimable = bytes(sum.reclaimable);
        if percent && sum.size > 0 {
            let percent = i128::from(sum.reclaimable) * 100 / i128::from(sum.size);
            reclaimable.push_str(&format!(" ({percent}%)"));
        }
        let (total, active) = (sum.total.to_string(), sum.active.to_string());
        [kind.to_owned(), total, active, bytes(sum.size), reclaimable]
    })
}

/// What `system df` has for templates.
pub(super) fn rows(usage: &Value) -> Vec<Row> {
    let names = COLUMNS.map(|(name, _)| name);
    let row = |cells: [String; 5]| {
        let mut cells = cells.into_iter();
        Row::new(names.map(|name| (name, cells.next().unwrap_or_default())), &Default::default())
    };
    cells(usage).map(row).collect()
}

/// The table of `system df`.
pub(super) fn summary(usage: &Value) -> String {
    let mut table = Table::new(&COLUMNS.map(|(_, header)| header));
    cells(usage).for_each(|cells| table.row(cells.into_iter().map(Cell::from).collect()));
    table.render(false)
}

/// The tables of `system df -v`.
pub(super) fn verbose(usage: &Value) -> String {
    let now = moment::now();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ago = |seconds: &Value| match seconds.as_i64() {
        Some(seconds) => format!("{} ago", human::span(now.saturating_sub(seconds))),
        None => String::new(),
    };

    let mut images = Table::new(&[
        "REPOSITORY",
        "TAG",
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "SHARED SIZE",
        "UNIQUE SIZE",
        "CONTAINERS",
    ]);
    for image in list(usage, "Images") {
        let name = text(&image["RepoTags"][0]);
        let (repository, tag) =
            super::images::split_name(if name == "<none>:<none>" { "" } else { &name });
        let (all, shared) = (size(&image["Size"]), size(&image["SharedSize"]));
        images.row(vec![
            repository.into(),
            tag.into(),
            human::short_id(&text(&image["Id"])).into(),
            ago(&image["Created"]).into(),
            bytes(all).into(),
            bytes(shared).into(),
            bytes(all - shared).into(),
            size(&image["Containers"]).to_string().into(),
        ]);
    }
    let mut containers = Table::new(&[
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "LOCAL VOLUMES",
        "SIZE",
        "CREATED",
        "STATUS",
        "NAMES",
    ]);
    for container in list(usage, "Containers") {
        let mounts = list(container, "Mounts");
        let volumes = mounts.iter().filter(|m| m["Type"] == "volume").count();
        containers.row(vec![
            human::short_id(&text(&container["Id"])).into(),
            text(&container["Image"]).into(),
            human::command(&text(&container["Command"]), false).into(),
            volumes.to_string().into(),
            bytes(size(&container["SizeRw"])).into(),
            ago(&container["Created"]).into(),
            text(&container["Status"]).into(),
            text(&container["Names"][0]).trim_start_matches('/').into(),
        ]);
    }
    let mut volumes = Table::new(&["VOLUME NAME", "LINKS", "SIZE"]);
    for volume in list(usage, "Volumes") {
        volumes.row(vec![
            text(&volume["Name"]).into(),
            size(&volume["UsageData"]["RefCount"]).to_string().into(),
            bytes(size(&volume["UsageData"]["Size"])).into(),
        ]);
    }
    let mut cache = Table::new(&["CACHE ID", "CACHE TYPE", "SIZE", "USAGE", "SHARED"]);
    for item in list(usage, "BuildCache") {
        cache.row(vec![
            human::short_id(&text(&item["ID"])).into(),
            text(&item["Type"]).into(),
            bytes(size(&item["Size"])).into(),
            size(&item["UsageCount"]).to_string().into(),
            item["Shared"].as_bool().unwrap_or(false).to_string().into(),
        ]);
    }
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
         Build cache usage: {}\n\n{}",
        images.render(false),
        containers.render(false),
        volumes.render(false),
        bytes(self::cache(usage).size),
        cache.render(false)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sums_are_dockers() {
        let usage = json!({
            "LayersSize": 1000,
            "Images": [
                {"Id": "sha256:0123456789abcdef", "RepoTags": ["a:1"], "Containers": 1, "Size": 700, "SharedSize": 100},
                {"Id": "sha256:1", "RepoTags": ["<none>:<none>"], "Containers": 0, "Size": 400, "SharedSize": -1}
            ],
            "Containers": [{"State": "running", "SizeRw": 10}, {"State": "exited", "SizeRw": 30}],
            "Volumes": [{"Name": "v", "UsageData": {"RefCount": 0, "Size": 5}},
                        {"Name": "w", "UsageData": {"RefCount": 1, "Size": -1}}],
            "BuildCache": null
        });
        let text = summary(&usage);
        let want = "TYPE            TOTAL   ACTIVE   SIZE   RECLAIMABLE\n\
                    Images          2       1        1kB    400B (40%)\n\
                    Containers      2       1        40B    30B (75%)\n\
                    Local Volumes   2       1        5B     5B (100%)\n\
                    Build Cache     0       0        0B     0B\n";
        assert_eq!(text, want);
        let text = verbose(&usage);
        for wanted in
            ["a            1        0123456789ab", "<none>       <none>", "v             0"]
        {
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn numbers_without_measure_are_the_largest_there_is() {
        let most = i64::MAX;
        let image = json!({"Id": "a", "Containers": 1, "Size": 0, "SharedSize": most});
        let idle = json!({"State": "exited", "SizeRw": most});
        let usage = json!({
            "LayersSize": most,
            "Images": [image, image, image],
            "Containers": [idle, idle],
            "Volumes": [{"Name": "v", "UsageData": {"RefCount": u64::MAX, "Size": u64::MAX}}],
        });
        let text = summary(&usage);
        assert!(text.contains("9.223EB   9.223EB (100%)"), "{text}");
        assert!(verbose(&usage).contains("0B"));
    }
}
