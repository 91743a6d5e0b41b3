//! `-v`, `--mount` and `--tmpfs` as docker's client reads them. Paths are those of the host that runs the
//! container: one that is relative to a directory here is refused, since it would mean another place there.
//! Pure.

use serde_json::{Map, Value, json};

use super::values::{Parsed, csv, size};

/// What `-v` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// A path of the host or a named volume, for the engine's Binds.
    Bind(String),
    /// A volume without a name, at this path of the container.
    Anonymous(String),
}

/// Reads `-v`: [SOURCE:]PATH[:OPTIONS].
pub(crate) fn volume(text: &str) -> Parsed<Volume> {
    if text.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [path] => Ok(Volume::Anonymous(path.to_owned())),
        _ if parts.iter().any(|part| part.is_empty()) => {
            Err(format!("invalid spec: {text}: empty section between colons"))
        }
        [source, ..] if parts.len() <= 3 => {
            check_source(source)?;
            Ok(Volume::Bind(text.to_owned()))
        }
        _ => Err(format!("invalid spec: {text}: too many colons")),
    }
}

fn check_source(source: &str) -> Parsed<()> {
    match source.starts_with('.') {
        true => Err(format!(
            "{source} is relative to a directory of this machine: write the path on the host"
        )),
        false => Ok(()),
    }
}

/// Reads `--tmpfs`: PATH[:OPTIONS].
pub(crate) fn tmpfs(text: &str) -> (String, Value) {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    (path.to_owned(), options.into())
}

/// Reads `--mount`: keys with commas between.
pub(crate) fn mount(text: &str) -> Parsed<Value> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in csv(text)? {
        mount.field(&field)?;
    }
    mount.json()
}

#[derive(Default)]
struct Mount {
    kind: String,
    source: String,
    target: String,
    read_only: bool,
    consistency: String,
    bind: Map<String, Value>,
    volume: Map<String, Value>,
    labels: Map<String, Value>,
    driver: Map<String, Value>,
    driver_options: Map<String, Value>,
    image: Map<String, Value>,
    tmpfs: Map<String, Value>,
}

impl Mount {
    fn field(&mut self, field: &str) -> Parsed<()> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        let flag = || match value {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(value) => Err(format!("invalid value for {key}: {value}")),
        };
        match key.as_str() {
            "readonly" | "ro" => self.read_only = flag()?,
            "volume-nocopy" => set(&mut self.volume, "NoCopy", flag()?),
            "bind-nonrecursive" => set(&mut self.bind, "NonRecursive", flag()?),
            _ => match value {
                Some(value) => self.value(&key, value, field)?,
                None => return Err(format!("invalid field '{field}' must be a key=value pair")),
            },
        }
        Ok(())
    }

    fn value(&mut self, key: &str, value: &str, field: &str) -> Parsed<()> {
        let invalid = || format!("invalid value for {key}: {value}");
        match key {
            "type" => self.kind = value.to_lowercase(),
            "source" | "src" => {
                check_source(value)?;
                self.source = value.to_owned();
            }
            "target" | "dst" | "destination" => self.target = value.to_owned(),
            "consistency" => self.consistency = value.to_lowercase(),
            "bind-propagation" => set(&mut self.bind, "Propagation", value.to_lowercase()),
            "bind-recursive" => match value {
                "enabled" => {}
                "disabled" => set(&mut self.bind, "NonRecursive", true),
                "writable" => set(&mut self.bind, "ReadOnlyNonRecursive", true),
                "readonly" => set(&mut self.bind, "ReadOnlyForceRecursive", true),
                _ => {
                    return Err(format!(
                        "{} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
                        invalid()
                    ));
                }
            },
            "volume-subpath" => set(&mut self.volume, "Subpath", value),
            "volume-label" => add(&mut self.labels, value),
            "volume-driver" => set(&mut self.driver, "Name", value),
            "volume-opt" => add(&mut self.driver_options, value),
            "image-subpath" => set(&mut self.image, "Subpath", value),
            "tmpfs-size" => {
                set(&mut self.tmpfs, "SizeBytes", size(value).map_err(|_| invalid())?);
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).map_err(|_| invalid())?;
                set(&mut self.tmpfs, "Mode", mode);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn json(mut self) -> Parsed<Value> {
        set_some(&mut self.driver, "Options", self.driver_options);
        set_some(&mut self.volume, "Labels", self.labels);
        set_some(&mut self.volume, "DriverConfig", self.driver);
        if self.kind.is_empty() {
            return Err("type is required".to_owned());
        }
        if self.target.is_empty() {
            return Err("target is required".to_owned());
        }
        for (options, kind) in [
            (&self.volume, "volume"),
            (&self.image, "image"),
            (&self.bind, "bind"),
            (&self.tmpfs, "tmpfs"),
        ] {
            if !options.is_empty() && kind != self.kind {
                let other = &self.kind;
                return Err(format!("cannot mix '{kind}-*' options with mount type '{other}'"));
            }
        }
        let needs = |option: &str, name: &str, what: &str| match self.bind.contains_key(option) {
            true => Err(format!(
                "option 'bind-recursive={name}' requires '{what}' to be specified in conjunction"
            )),
            false => Ok(()),
        };
        if !self.read_only {
            needs("ReadOnlyNonRecursive", "writable", "readonly")?;
            needs("ReadOnlyForceRecursive", "readonly", "readonly")?;
        }
        if self.bind.get("Propagation").is_none_or(|p| p != "rprivate") {
            needs("ReadOnlyForceRecursive", "readonly", "bind-propagation=rprivate")?;
        }
        let mut json = Map::new();
        set(&mut json, "Type", self.kind);
        for (key, value) in
            [("Source", self.source), ("Target", self.target), ("Consistency", self.consistency)]
        {
            if !value.is_empty() {
                set(&mut json, key, value);
            }
        }
        if self.read_only {
            set(&mut json, "ReadOnly", true);
        }
        set_some(&mut json, "BindOptions", self.bind);
        set_some(&mut json, "VolumeOptions", self.volume);
        set_some(&mut json, "ImageOptions", self.image);
        set_some(&mut json, "TmpfsOptions", self.tmpfs);
        Ok(json!(json))
    }
}

fn set(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    map.insert(key.to_owned(), value.into());
}

/// Sets options, if there are any.
fn set_some(map: &mut Map<String, Value>, key: &str, options: Map<String, Value>) {
    if !options.is_empty() {
        set(map, key, options);
    }
}

/// Adds k=v.
fn add(map: &mut Map<String, Value>, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    set(map, key, value);
}
