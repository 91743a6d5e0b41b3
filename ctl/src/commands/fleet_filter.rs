//! docker's `--filter` where no engine is asked: over what the fleet's list and events tell. What they do
//! not tell is refused, since a filter that is passed over would select what nobody wanted.

use dockctl_api::v1::{Container, Event, Image};

use crate::{
    error::{Error, Result},
    output::clean,
    select::{glob_fits, label_fits},
};

/// Filters by their names.
#[derive(Debug)]
pub(super) struct Filters(Vec<(String, Vec<String>)>);

impl Filters {
    /// Reads "name=value" texts; what is not known here is refused.
    pub(super) fn read(texts: &[String], known: &Known) -> Result<Self> {
        let mut all: Vec<(String, Vec<String>)> = Vec::new();
        for text in texts {
            let parts = text.split_once('=').filter(|(name, _)| !name.trim().is_empty());
            let (name, value) = parts.ok_or_else(|| {
                Error::usage(format!(
                    "{:?}: bad format of filter (expected name=value)",
                    clean(text)
                ))
            })?;
            let (name, value) = (name.trim().to_lowercase(), value.trim().to_owned());
            // Where a volume is mounted the fleet's list does not tell.
            let is_path = name == "volume" && value.starts_with('/');
            if known.host.contains(&name.as_str()) || is_path {
                return Err(needs_host(&name));
            }
            let values = known.here.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
            if values.is_none_or(|v| !v.is_empty() && !v.contains(&value.as_str())) {
                return Err(invalid(text, known, values.unwrap_or_default()));
            }
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => all.push((name, vec![value])),
            }
        }
        Ok(Self(all))
    }

    /// Whether each filter has a value that fits, or for labels, whether all of them do.
    fn fit(&self, fits: impl Fn(&str, &str) -> bool) -> bool {
        self.0.iter().all(|(name, values)| match name.as_str() {
            "label" => values.iter().all(|value| fits(name, value)),
            _ => values.iter().any(|value| fits(name, value)),
        })
    }
}

/// What can be filtered by: over the fleet, with its values where only these make sense, and at a host only.
pub(super) struct Known {
    here: &'static [(&'static str, &'static [&'static str])],
    host: &'static [&'static str],
}

/// Docker's sentence for a filter that makes no sense, and what would.
fn invalid(text: &str, known: &Known, values: &[&str]) -> Error {
    let names = || known.here.iter().map(|(name, _)| *name).chain(known.host.iter().copied());
    let good = match values {
        [] => names().collect::<Vec<_>>().join(", "),
        values => values.join(", "),
    };
    Error::usage(format!("Invalid filter '{}'", clean(text))).hint(format!("there are {good}"))
}

fn needs_host(name: &str) -> Error {
    Error::usage(format!("filter {:?} needs --on HOST", clean(name)))
        .hint("the fleet's list does not tell it; a host's engine does")
}

/// What a fleet's containers can be filtered by.
pub(super) const CONTAINERS: Known = Known {
    here: &[
        ("status", &["created", "restarting", "running", "removing", "paused", "exited", "dead"]),
        ("health", &["starting", "healthy", "unhealthy", "none"]),
        ("name", &[]),
        ("id", &[]),
        ("label", &[]),
        ("exited", &[]),
        ("network", &[]),
        ("volume", &[]),
    ],
    host: &["ancestor", "before", "since", "publish", "expose", "isolation", "is-task"],
};

/// Whether a container fits.
pub(super) fn container(filters: &Filters, c: &Container) -> bool {
    filters.fit(|name, value| match name {
        "status" => c.state == value,
        "name" => name_fits(value, &c.name),
        "id" => c.id.starts_with(value),
        "label" => label_fits(value, &c.labels),
        "network" => c.networks.iter().any(|network| network == value),
        "volume" => c.mounts.iter().any(|mount| mount == value),
        "health" => health(&c.status) == value,
        "exited" => {
            let code = c.status.strip_prefix("Exited (").and_then(|rest| rest.split_once(')'));
            code.is_some_and(|(code, _)| code == value)
        }
        _ => false,
    })
}

/// A container's health, which its status tells.
fn health(status: &str) -> &str {
    let noted = status.rsplit_once('(').and_then(|(_, note)| note.strip_suffix(')'));
    match noted.map(|note| note.trim_start_matches("health: ")) {
        Some(health @ ("starting" | "healthy" | "unhealthy")) => health,
        _ => "none",
    }
}

/// Refuses names that are patterns, which the engine reads as regular expressions.
pub(super) fn plain_names(texts: &[String]) -> Result<()> {
    let pattern = |text: &&String| {
        text.strip_prefix("name=")
            .is_some_and(|name| name.contains(['*', '+', '?', '(', '[', '|', '\\']))
    };
    match texts.iter().find(pattern) {
        Some(_) => Err(Error::usage("a filter by a pattern of names needs --on HOST")),
        None => Ok(()),
    }
}

/// Part of the name, as the engine takes it; ^ and $ stand for its ends.
fn name_fits(wanted: &str, name: &str) -> bool {
    let (begins, inner) = match wanted.strip_prefix('^') {
        Some(inner) => (true, inner.trim_start_matches('/')),
        None => (false, wanted.trim_start_matches('/')),
    };
    let (ends, inner) = match inner.strip_suffix('$') {
        Some(inner) => (true, inner),
        None => (false, inner),
    };
    match (begins, ends) {
        (true, true) => name == inner,
        (true, false) => name.starts_with(inner),
        (false, true) => name.ends_with(inner),
        (false, false) => name.contains(inner),
    }
}

/// What a fleet's images can be filtered by.
pub(super) const IMAGES: Known = Known {
    here: &[("dangling", &["true", "1", "false", "0"]), ("label", &[]), ("reference", &[])],
    host: &["before", "since", "until"],
};

/// Whether an image fits.
pub(super) fn image(filters: &Filters, image: &Image) -> bool {
    filters.fit(|name, value| match name {
        "dangling" => image.tags.is_empty() == matches!(value, "true" | "1"),
        "label" => label_fits(value, &image.labels),
        "reference" => image.tags.iter().any(|tag| reference_fits(value, tag)),
        _ => false,
    })
}

/// As the engine matches: the whole name, or the repository alone; stars stop at slashes.
pub(super) fn reference_fits(wanted: &str, name: &str) -> bool {
    let (repository, _) = super::images::split_name(name);
    [name, repository].into_iter().any(|name| {
        name.matches('/').count() == wanted.matches('/').count()
            && wanted.split('/').zip(name.split('/')).all(|(w, n)| glob_fits(w, n))
    })
}

/// What events can be filtered by, of one host or all.
pub(super) const EVENTS: Known = Known {
    here: &[
        ("type", &[]),
        ("event", &[]),
        ("container", &[]),
        ("image", &[]),
        ("label", &[]),
        ("volume", &[]),
        ("network", &[]),
    ],
    host: &[],
};

/// Whether an event fits.
pub(super) fn event(filters: &Filters, event: &Event) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    let is = |kind: &str, value: &str| {
        event.r#type == kind
            && (event.actor_id == value
                || attribute("name") == value
                || (kind != "volume" && value.len() >= 4 && event.actor_id.starts_with(value)))
    };
    filters.fit(|name, value| match name {
        "type" => event.r#type == value,
        // "exec_start: sh" is an exec_start.
        "event" => event.action == value || event.action.split(':').next() == Some(value),
        "container" => is("container", value),
        "volume" => is("volume", value),
        "network" => is("network", value),
        "image" if event.r#type == "image" => {
            is("image", value) || reference_fits(value, attribute("name"))
        }
        "image" => event.r#type == "container" && reference_fits(value, attribute("image")),
        "label" => label_fits(value, &event.attributes),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str], known: &Known) -> Result<Filters> {
        Filters::read(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>(), known)
    }

    #[test]
    fn containers_are_filtered_as_an_engine_filters_them() {
        let c = Container {
            id: "3f2a4b".to_owned(),
            name: "web-1".to_owned(),
            state: "exited".to_owned(),
            status: "Exited (3) 5 minutes ago".to_owned(),
            labels: [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())].into(),
            networks: vec!["net".to_owned()],
            mounts: vec!["data".to_owned()],
            ..Container::default()
        };
        for (texts, fits) in [
            (&["status=running", "status=exited"][..], true),
            (&["status=running"], false),
            (&["status=exited", "exited=0"], false),
            (&["exited=3", "network=net", "id=3f2"], true),
            (&["name=eb"], true),
            (&["name=^web"], true),
            (&["name=^/web-1$"], true),
            (&["name=^eb"], false),
            (&["label=a", "label=a=b"], true),
            (&["label=a", "label=d"], false),
            (&["volume=data", "health=none"], true),
            (&["volume=dat"], false),
            (&["health=healthy"], false),
        ] {
            assert_eq!(container(&read(texts, &CONTAINERS).unwrap(), &c), fits, "{texts:?}");
        }
        for (status, wanted) in [
            ("Up 5 minutes (healthy)", "healthy"),
            ("Up 2 seconds (health: starting)", "starting"),
            ("Up 3 hours (unhealthy)", "unhealthy"),
            ("Up 3 hours (Paused)", "none"),
        ] {
            assert_eq!(health(status), wanted, "{status}");
        }
        for (bad, why) in [
            ("ancestor=v", "needs --on HOST"),
            ("volume=/data", "needs --on HOST"),
            ("status", "bad format of filter"),
            ("status=bogus", "Invalid filter 'status=bogus'"),
            ("colour=red", "Invalid filter 'colour=red'"),
        ] {
            let error = read(&[bad], &CONTAINERS).unwrap_err().told().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(plain_names(&["name=a*".to_owned()]).is_err());
    }

    #[test]
    fn references_and_events_fit_as_dockers() {
        assert!(reference_fits("dockctl/busy*", "dockctl/busybox:test"));
        assert!(reference_fits("dockctl/busybox:t*", "dockctl/busybox:test"));
        assert!(!reference_fits("busybox", "dockctl/busybox:test"));
        assert!(!reference_fits("*", "dockctl/busybox:test"));
        let exec = Event {
            r#type: "container".to_owned(),
            action: "exec_start: sh".to_owned(),
            actor_id: "3f2a4b".to_owned(),
            attributes: [("name", "web"), ("image", "nginx:1")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            ..Event::default()
        };
        for (text, fits) in [
            ("type=container", true),
            ("event=exec_start", true),
            ("event=die", false),
            ("container=web", true),
            ("container=3f2a", true),
            ("image=nginx", true),
            ("image=redis", false),
            ("label=name=web", true),
            ("network=web", false),
        ] {
            assert_eq!(event(&read(&[text], &EVENTS).unwrap(), &exec), fits, "{text}");
        }
    }
}
