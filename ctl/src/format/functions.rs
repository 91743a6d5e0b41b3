//! The functions of templates: Go's own, and those that docker adds.

use std::cmp::Ordering;

use serde_json::Value;

use super::eval::is_true;

/// The widest field that `printf` and `pad` make, characters.
const WIDEST: usize = 10_000;

/// Whether a table's header passes through this function as it is.
pub(super) fn is_for_texts(name: &str) -> bool {
    matches!(name, "json" | "lower" | "upper" | "title" | "truncate" | "join" | "split")
}

/// Calls a function that the parser knows.
pub(super) fn call(name: &str, arguments: Vec<Value>) -> Result<Value, String> {
    let text = |at: usize| match arguments.get(at) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => {
            Err(format!("wrong type for value; expected string; got {}", printed(other)))
        }
        None => Err(count(name, arguments.len())),
    };
    let number = |at: usize| {
        let number = arguments.get(at).and_then(Value::as_i64);
        let number = number.ok_or_else(|| format!("{name}: expected an integer"))?;
        usize::try_from(number).map(|n| n.min(WIDEST)).map_err(|_| format!("{name}: {number} < 0"))
    };
    let exactly = |wanted: usize| match arguments.len() == wanted {
        true => Ok(()),
        false => Err(count(name, arguments.len())),
    };
    let compared = || {
        exactly(2)?;
        order(&arguments[0], &arguments[1])
    };
    Ok(match name {
        "and" | "or" => arguments.into_iter().last().ok_or_else(|| count("and", 0))?,
        "not" => {
            exactly(1)?;
            (!is_true(&arguments[0])).into()
        }
        "eq" => match arguments.split_first() {
            Some((first, rest)) if !rest.is_empty() => rest.iter().any(|v| same(first, v)).into(),
            _ => return Err(count(name, arguments.len())),
        },
        "ne" => {
            exactly(2)?;
            (!same(&arguments[0], &arguments[1])).into()
        }
        "lt" => (compared()? == Ordering::Less).into(),
        "le" => (compared()? != Ordering::Greater).into(),
        "gt" => (compared()? == Ordering::Greater).into(),
        "ge" => (compared()? != Ordering::Less).into(),
        "len" => {
            exactly(1)?;
            match &arguments[0] {
                Value::Null => 0.into(),
                Value::String(text) => text.len().into(),
                Value::Array(items) => items.len().into(),
                Value::Object(map) => map.len().into(),
                other => return Err(format!("error calling len: len of {}", printed(other))),
            }
        }
        "index" => {
            let mut rest = arguments.into_iter();
            let first = rest.next().ok_or_else(|| count(name, 0))?;
            rest.try_fold(first, |value, key| index(&value, &key))?
        }
        "json" => {
            exactly(1)?;
            arguments[0].to_string().into()
        }
        "join" => match (arguments.first(), text(1)?) {
            (Some(Value::Array(items)), by) => {
                items.iter().map(printed).collect::<Vec<_>>().join(by).into()
            }
            (Some(Value::Null), _) => "".into(),
            (_, _) => return Err("error calling join: expected a list".to_owned()),
        },
        "split" => text(0)?.split(text(1)?).collect::<Vec<_>>().into(),
        "lower" => text(0)?.to_lowercase().into(),
        "upper" => text(0)?.to_uppercase().into(),
        "title" => title(text(0)?).into(),
        "truncate" => text(0)?.chars().take(number(1)?).collect::<String>().into(),
        "pad" => match text(0)? {
            "" => "".into(),
            inner => format!("{}{inner}{}", " ".repeat(number(1)?), " ".repeat(number(2)?)).into(),
        },
        "print" => spaced(&arguments).into(),
        "println" => (arguments.iter().map(printed).collect::<Vec<_>>().join(" ") + "\n").into(),
        "printf" => printf(text(0)?, &arguments[1..])?.into(),
        _ => return Err(format!("function {name:?} not defined")),
    })
}

fn count(name: &str, got: usize) -> String {
    format!("wrong number of args for {name}: got {got}")
}

/// As Go's `Sprint`: a space between two that are both no texts.
fn spaced(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && !value.is_string() && !values[at - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&printed(value));
    }
    out
}

fn title(text: &str) -> String {
    let mut begins = true;
    let upper = |c: char| {
        let first = std::mem::replace(&mut begins, !c.is_alphanumeric() && c != '_' && c != '\'');
        if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(upper).collect()
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    let order = match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
    };
    order.ok_or_else(|| "incompatible types for comparison".to_owned())
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        // A map without the key has its kind's empty value: a text's, as most of docker's are.
        (Value::Object(map), Value::String(key)) => {
            let empty = || match map.values().next() {
                Some(Value::String(_)) | None => "".into(),
                Some(_) => Value::Null,
            };
            Ok(map.get(key).cloned().unwrap_or_else(empty))
        }
        (Value::Array(items), Value::Number(at)) => {
            let item = at.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?));
            item.cloned().ok_or_else(|| format!("error calling index: index out of range: {at}"))
        }
        (Value::String(text), Value::Number(at)) => {
            let byte = at.as_u64().and_then(|at| text.as_bytes().get(usize::try_from(at).ok()?));
            byte.map(|b| (*b).into())
                .ok_or_else(|| format!("error calling index: index out of range: {at}"))
        }
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Null, Value::Number(at)) => {
            Err(format!("error calling index: index out of range: {at}"))
        }
        _ => Err(format!("error calling index: can't index item of type {}", kind(value))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// A value as Go prints it.
pub(super) fn printed(value: &Value) -> String {
    printed_as(value, "")
}

/// The same where the field's name says what is empty: the engine writes null for an empty list or map,
/// which docker prints as such.
pub(super) fn printed_as(value: &Value, name: &str) -> String {
    match value {
        Value::Null => match name {
            "Labels" | "Ports" | "PortBindings" | "Volumes" | "ExposedPorts" | "Options"
            | "Networks" | "DriverOpts" | "Sysctls" | "Tmpfs" | "StorageOpt" => "map[]",
            "PidsLimit" | "MemorySwappiness" | "OomKillDisable" | "IPAMConfig" | "Init"
            | "Platform" => "<nil>",
            "" => "<no value>",
            _ => "[]",
        }
        .to_owned(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(element).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut items: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", element(value))).collect();
            items.sort();
            format!("map[{}]", items.join(" "))
        }
    }
}

fn element(value: &Value) -> String {
    if value.is_null() { "<nil>".to_owned() } else { printed(value) }
}

/// `printf` with what people use: %s %v %d %q %t %x %f %% with flags "-" and "0", a width and a precision.
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let spec = &rest[at + 1..];
        let end = spec.find(|c: char| !"-+# 0123456789.".contains(c));
        let Some((end, verb)) = end.and_then(|end| Some((end, spec[end..].chars().next()?))) else {
            return Ok(out + "%!(NOVERB)");
        };
        rest = &spec[end + verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        let flags = spec[..end].trim_start_matches(['-', '+', '#', ' ', '0']);
        let given = &spec[..end - flags.len()];
        let (width, precision) = flags.split_once('.').unwrap_or((flags, ""));
        let width: usize = if width.is_empty() { 0 } else { width.parse().unwrap_or(usize::MAX) };
        let precision: Option<usize> = precision.parse().ok();
        if width.max(precision.unwrap_or(0)) > WIDEST {
            return Err("error calling printf: a width is too large".to_owned());
        }
        let Some(value) = arguments.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let mut text = match (verb, value) {
            ('v', _) | ('s', Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                printed(value)
            }
            ('d', Value::Number(n)) if n.is_i64() || n.is_u64() => n.to_string(),
            ('t', Value::Bool(is)) => is.to_string(),
            ('q', Value::String(text)) => Value::from(text.as_str()).to_string(),
            ('x', Value::Number(n)) => match n.as_i64() {
                Some(n) => format!("{n:x}"),
                None => printed(value),
            },
            ('f', Value::Number(n)) => {
                format!("{:.*}", precision.unwrap_or(6), n.as_f64().unwrap_or(0.0))
            }
            _ => format!("%!{verb}({}={})", kind(value), printed(value)),
        };
        if let ('s' | 'v', Some(most)) = (verb, precision) {
            text = text.chars().take(most).collect();
        }
        let fill = width.saturating_sub(text.chars().count());
        match given {
            left if left.contains('-') => out.push_str(&(text + &" ".repeat(fill))),
            zero if zero.contains('0') => out.push_str(&("0".repeat(fill) + &text)),
            _ => out.push_str(&(" ".repeat(fill) + &text)),
        }
    }
    Ok(out + rest)
}
