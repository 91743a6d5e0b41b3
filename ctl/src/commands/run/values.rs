//! The values of docker's flags, read as docker's own client reads them, with its words for those that
//! mean nothing. Pure.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

/// Why a value means nothing, in docker's words.
pub(crate) type Parsed<T> = Result<T, String>;

/// A size such as 512m or 1.5GiB, bytes; units are binary.
pub(crate) fn size(text: &str) -> Parsed<i64> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
    let (number, suffix) = text.split_at(end.ok_or_else(invalid)? + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let size: f64 = number
        .parse()
        .map_err(|_| format!("strconv.ParseFloat: parsing \"{number}\": invalid syntax"))?;
    if size < 0.0 {
        return Err(invalid());
    }
    let suffix = suffix.to_lowercase();
    let power = match (suffix.chars().next(), suffix.get(1..)) {
        (None, _) | (Some('b'), Some("")) => 0,
        (Some(unit), Some("" | "b" | "ib")) => match "kmgtp".find(unit) {
            Some(power) => power + 1,
            None => return Err(format!("invalid suffix: '{suffix}'")),
        },
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    // Larger than any memory is the largest there is, as in a Go conversion that saturates.
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    Ok((size * 1024_f64.powi(i32::try_from(power).unwrap_or(0))) as i64)
}

/// A size, or -1 for no limit.
pub(crate) fn size_or_unlimited(text: &str) -> Parsed<i64> {
    if text == "-1" { Ok(-1) } else { size(text) }
}

/// A whole number.
pub(crate) fn integer(text: &str) -> Parsed<i64> {
    let wrong = |_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax");
    text.parse().map_err(wrong)
}

/// A whole number of 16 bits.
pub(crate) fn unsigned(text: &str) -> Parsed<i64> {
    let wrong = |_| format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
    text.parse::<u16>().map(i64::from).map_err(wrong)
}

/// A number of CPUs, decimal or a fraction, in billionths.
pub(crate) fn cpus(text: &str) -> Parsed<i64> {
    let wrong = || format!("failed to parse {text} as a rational number");
    let (above, below) = match text.split_once('/') {
        Some((above, below)) => (above.parse::<i64>(), below.parse::<i64>()),
        None => {
            let (whole, part) = text.split_once('.').unwrap_or((text, ""));
            let part = part.trim_end_matches('0');
            let digits = whole.trim_start_matches(['-', '+']).len() + part.len();
            if !part.bytes().all(|b| b.is_ascii_digit()) || digits == 0 && !text.contains('0') {
                return Err(wrong());
            }
            let scale = u32::try_from(part.len()).ok().and_then(|n| 10_i64.checked_pow(n));
            (format!("{whole}{part}").parse(), Ok(scale.ok_or("value is too precise")?))
        }
    };
    let (Ok(above), Ok(below @ 1..)) = (above, below) else { return Err(wrong()) };
    let nanos = i128::from(above) * 1_000_000_000;
    match nanos % i128::from(below) {
        0 => i64::try_from(nanos / i128::from(below)).map_err(|_| wrong()),
        _ => Err("value is too precise".to_owned()),
    }
}

/// A span of time as Go writes it, for example 1m30s or 1.5h, nanoseconds.
pub(crate) fn span(text: &str) -> Parsed<i64> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("μs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3600e9),
    ];
    let invalid = || format!("time: invalid duration \"{text}\"");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut nanos = 0.0;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let end = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration \"{text}\""));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit \"{unit}\" in duration \"{text}\""));
        };
        nanos += number * scale;
        rest = tail;
    }
    if nanos >= 9.2e18 {
        return Err(invalid());
    }
    #[expect(clippy::cast_possible_truncation, reason = "292 years are its limit")]
    Ok((sign * nanos).round() as i64)
}

/// A restart policy: a name, with :N how often at most.
pub(crate) fn restart(text: &str) -> Parsed<Value> {
    let (name, count) = match text.split_once(':') {
        Some(("", _)) => {
            return Err("invalid restart policy format: no policy provided before colon".to_owned());
        }
        Some((name, count)) => (
            name,
            count.parse::<u32>().map_err(|_| {
                "invalid restart policy format: maximum retry count must be an integer".to_owned()
            })?,
        ),
        None => (text, 0),
    };
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

/// A limit: NAME=SOFT[:HARD].
pub(crate) fn ulimit(text: &str) -> Parsed<Value> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) =
        text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let (soft, hard) = match limits.split(':').collect::<Vec<_>>()[..] {
        [both] => (integer(both)?, integer(both)?),
        [soft, hard] => (integer(soft)?, integer(hard)?),
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    let order = "ulimit soft limit must be less than or equal to hard limit";
    match (soft, hard) {
        (_, -1) => {}
        (-1, hard) => return Err(format!("{order}: soft: -1 (unlimited), hard: {hard}")),
        (soft, hard) if soft > hard => return Err(format!("{order}: {soft} > {hard}")),
        _ => {}
    }
    Ok(json!({"Name": name, "Hard": hard, "Soft": soft}))
}

/// A request for GPUs: all, a number, or keys such as device=0.
pub(crate) fn gpus(text: &str) -> Parsed<Value> {
    let count = |text: &str| match text {
        "all" => Ok(-1),
        text => text.parse::<i64>().map_err(|_| {
            format!(
                "invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"
            )
        }),
    };
    let mut seen: Vec<&str> = Vec::new();
    let (mut driver, mut number, mut ids) = (String::new(), None, None);
    let (mut capabilities, mut options) = (vec!["gpu".to_owned()], Map::new());
    let fields = csv(text)?;
    for field in &fields {
        let (key, value) = field.split_once('=').unwrap_or(("count", field));
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        if seen.contains(&key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key);
        match key {
            "count" => number = Some(count(value)?),
            "driver" => driver = value.to_owned(),
            "device" => ids = Some(list()),
            "capabilities" => capabilities = [list(), capabilities].concat(),
            "options" => options = pairs(list().iter()),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let number = number.unwrap_or(if ids.is_none() { 1 } else { 0 });
    Ok(json!({
        "Driver": driver, "Count": number, "DeviceIDs": ids,
        "Capabilities": [capabilities], "Options": options,
    }))
}

/// Whether a device is one of the Container Device Interface, vendor.com/class=name.
pub(crate) fn is_cdi(text: &str) -> bool {
    !text.starts_with('/') && text.contains('/') && text.contains('=')
}

/// A device: PATH[:PATH[:rwm]].
pub(crate) fn device(text: &str) -> Parsed<Value> {
    let is_mode = |mode: &str| !mode.is_empty() && mode.bytes().all(|b| b"rwm".contains(&b));
    let (host, container, mode) = match text.split(':').collect::<Vec<_>>()[..] {
        [path] => (path, path, "rwm"),
        [path, mode] if is_mode(mode) => (path, path, mode),
        [host, container] => (host, container, "rwm"),
        [host, container, mode] if is_mode(mode) => (host, container, mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if !container.starts_with('/') {
        // Between two colons it was meant to be a mode.
        return Err(match host == container {
            true => format!("{container} is not an absolute path"),
            false => format!("bad mode specified: {container}"),
        });
    }
    Ok(json!({"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": mode}))
}

/// A device and a number for it.
fn of_device(text: &str) -> Parsed<(&str, &str)> {
    match text.split_once(':') {
        Some((path, _)) if !path.starts_with("/dev/") => {
            Err(format!("bad format for device path: {text}"))
        }
        Some((path, number)) if !number.contains(':') => Ok((path, number)),
        _ => Err(format!("bad format: {text}")),
    }
}

/// A device's weight: PATH:N.
pub(crate) fn weight(text: &str) -> Parsed<Value> {
    let (path, weight) = of_device(text)?;
    match weight.parse::<u16>() {
        Ok(weight @ (0 | 10..=1000)) => Ok(json!({"Path": path, "Weight": weight})),
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// A device's rate in bytes: PATH:RATE.
pub(crate) fn bytes_a_second(text: &str) -> Parsed<Value> {
    let (path, rate) = of_device(text)?;
    let rate = size(rate).map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. \
             Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// A device's rate in operations: PATH:RATE.
pub(crate) fn times_a_second(text: &str) -> Parsed<Value> {
    let (path, rate) = of_device(text)?;
    let rate: u64 = rate.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number \
             must be a positive integer"
        )
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// An IP address.
pub(crate) fn ip(text: &str) -> Parsed<String> {
    let ip: Result<IpAddr, _> = text.trim().parse();
    ip.map(|ip| ip.to_string())
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// A line for /etc/hosts, NAME:IP or NAME=IP.
pub(crate) fn extra_host(text: &str) -> Parsed<String> {
    let bad = || format!("bad format for add-host: \"{text}\"");
    let at = text.find('=').or_else(|| text.find(':')).filter(|at| *at > 0).ok_or_else(bad)?;
    let (name, ip) = (&text[..at], &text[at + 1..]);
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if ip != "host-gateway" && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: \"{ip}\""));
    }
    Ok(format!("{name}:{ip}"))
}

/// A kernel parameter that has a namespace of its own.
pub(crate) fn sysctl(text: &str) -> Parsed<&str> {
    const ALLOWED: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed = text.split_once('=').is_some_and(|(key, _)| {
        ALLOWED.contains(&key) || key.starts_with("net.") || key.starts_with("fs.mqueue.")
    });
    if allowed { Ok(text) } else { Err(format!("sysctl '{text}' is not allowed")) }
}

/// A capability as the engine calls it: CAP_ and capitals.
pub(crate) fn capability(text: &str) -> String {
    let name = text.trim().to_uppercase();
    match name.as_str() {
        "ALL" => name,
        _ if name.starts_with("CAP_") => name,
        _ => format!("CAP_{name}"),
    }
}

/// k=v, or k alone for an empty value, as a map.
pub(crate) fn pairs(all: impl Iterator<Item = impl AsRef<str>>) -> Map<String, Value> {
    all.map(|pair| {
        let (key, value) = pair.as_ref().split_once('=').unwrap_or((pair.as_ref(), ""));
        (key.to_owned(), value.into())
    })
    .collect()
}

/// The fields of one line of CSV, where quotes hold commas.
pub(crate) fn csv(line: &str) -> Parsed<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            '"' => return Err(format!("parse error in {line}: bare \" in non-quoted-field")),
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    match quoted {
        true => Err(format!("parse error in {line}: extraneous or missing \" in quoted-field")),
        false => Ok(fields),
    }
}
