//! What a parsed template makes of a value: Go's rules for fields, truth, ranges and printing, over JSON.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    functions,
    parse::{Base, Node, Pipe, Term},
};

/// Bytes that one value may be made into: what a template could ask for is more than a machine has.
const LONGEST: usize = 64 * 1024 * 1024;
/// Nodes that are worked through for one value, at most.
const STEPS: usize = 10_000_000;

/// A value, and what a template can ask of it.
pub(super) struct Eval<'a> {
    /// The value of `$`.
    pub(super) root: &'a Value,
    /// Answers `.Label "key"`.
    pub(super) label: Option<&'a dyn Fn(&str) -> String>,
    /// The row of field names above a table, which functions leave as they are.
    pub(super) header: bool,
    pub(super) out: String,
    steps: usize,
    variables: Vec<(String, Value)>,
}

impl<'a> Eval<'a> {
    /// Nothing printed yet.
    pub(super) fn new(root: &'a Value, label: Option<&'a dyn Fn(&str) -> String>) -> Self {
        Self { root, label, header: false, out: String::new(), steps: 0, variables: Vec::new() }
    }

    /// Works through nodes with `dot` as the value of ".".
    pub(super) fn run(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        let scope = self.variables.len();
        for node in nodes {
            self.steps += 1;
            if self.steps > STEPS || self.out.len() > LONGEST {
                return Err("the template prints too much".to_owned());
            }
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        let name = last_field(pipe);
                        self.out.push_str(&functions::printed_as(&value, name));
                    }
                }
                Node::If(pipe, then, otherwise) => {
                    let inner = self.variables.len();
                    match is_true(&self.lenient(pipe, dot)?) {
                        true => self.run(then, dot)?,
                        false => self.run(otherwise, dot)?,
                    }
                    self.variables.truncate(inner);
                }
                Node::With(pipe, then, otherwise) => {
                    let inner = self.variables.len();
                    match self.lenient(pipe, dot)? {
                        value if is_true(&value) => self.run(then, &value)?,
                        _ => self.run(otherwise, dot)?,
                    }
                    self.variables.truncate(inner);
                }
                Node::Range(pipe, then, otherwise) => self.range(pipe, then, otherwise, dot)?,
            }
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        then: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), String> {
        let commands = Pipe { variables: Vec::new(), ..pipe.clone() };
        let items: Vec<(Value, Value)> = match self.lenient(&commands, dot)? {
            Value::Null => Vec::new(),
            Value::Array(items) => (0usize..).map(Value::from).zip(items).collect(),
            Value::Object(map) => {
                let mut items: Vec<(String, Value)> = map.into_iter().collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                items.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            other => {
                return Err(format!("range can't iterate over {}", functions::printed(&other)));
            }
        };
        if items.is_empty() {
            return self.run(otherwise, dot);
        }
        let scope = self.variables.len();
        for (key, value) in items {
            match pipe.variables.as_slice() {
                [] => {}
                [one] => self.set(one, value.clone(), pipe.declares)?,
                [first, second, ..] => {
                    self.set(first, key, pipe.declares)?;
                    self.set(second, value.clone(), pipe.declares)?;
                }
            }
            self.run(then, &value)?;
            self.variables.truncate(scope);
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value, new: bool) -> Result<(), String> {
        if new {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let slot = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        let slot = slot.ok_or_else(|| format!("undefined variable: ${name}"))?;
        slot.1 = value;
        Ok(())
    }

    /// A condition: the engine leaves fields out that have no value, which docker takes for empty here.
    fn lenient(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        match self.pipe(pipe, dot) {
            Err(why) if self.label.is_none() && why.contains(MISSING) => Ok(Value::Null),
            done => done,
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value, dot)?);
        }
        let value = value.unwrap_or_default();
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.declares)?;
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &[Term],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let Some((first, rest)) = command.split_first() else { return Ok(Value::Null) };
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        if let Base::Function(name) = &first.base {
            for term in rest {
                let value = self.term(term, dot)?;
                // These two do not look further than they must.
                match (name.as_str(), is_true(&value)) {
                    ("and", false) | ("or", true) => return Ok(value),
                    _ => arguments.push(value),
                }
            }
            arguments.extend(piped);
            let value = match self.header && functions::is_for_texts(name) {
                true => arguments.into_iter().find(Value::is_string).unwrap_or_default(),
                false => functions::call(name, arguments)?,
            };
            return fields(value, &first.fields);
        }
        if rest.is_empty() && piped.is_none() {
            return self.term(first, dot);
        }
        if let (Some(label), Base::Dot, [name]) = (self.label, &first.base, &first.fields[..])
            && name == "Label"
        {
            for term in rest {
                arguments.push(self.term(term, dot)?);
            }
            arguments.extend(piped);
            return match arguments.as_slice() {
                [Value::String(key)] => Ok(label(key).into()),
                _ => Err("wrong number of args for Label: want 1".to_owned()),
            };
        }
        let name = first.fields.last().map_or("", String::as_str);
        Err(format!("<{name}>: {name} has arguments but cannot be invoked as function"))
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Result<Value, String> {
        match &term.base {
            Base::Dot => fields_of(dot, &term.fields),
            Base::Variable(name) if name.is_empty() => fields_of(self.root, &term.fields),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = known.ok_or_else(|| format!("undefined variable: ${name}"))?;
                fields_of(value, &term.fields)
            }
            Base::Constant(value) => fields_of(value, &term.fields),
            Base::Function(name) => fields(functions::call(name, Vec::new())?, &term.fields),
            Base::Pipe(pipe) => fields(self.pipe(pipe, dot)?, &term.fields),
        }
    }
}

/// The name that a missing field's error has.
pub(super) const MISSING: &str = "no entry for key";

fn fields(value: Value, names: &[String]) -> Result<Value, String> {
    if names.is_empty() { Ok(value) } else { fields_of(&value, names) }
}

fn fields_of(mut value: &Value, names: &[String]) -> Result<Value, String> {
    for name in names {
        let at = || names.join(".");
        value = match value {
            // The engine's JSON writes Id where docker's own type has ID.
            Value::Object(map) => map
                .get(name)
                .or_else(|| map.get("Id").filter(|_| name == "ID"))
                .ok_or_else(|| format!("<.{}>: map has {MISSING} {name:?}", at()))?,
            Value::Null => return Err(format!("<.{}>: nil data; {MISSING} {name:?}", at())),
            _ => return Err(format!("<.{}>: can't evaluate field {name}", at())),
        };
    }
    Ok(value.clone())
}

/// The field that a pipeline only names, whose kind says how it prints when it is empty.
fn last_field(pipe: &Pipe) -> &str {
    match pipe.commands.as_slice() {
        [command] => match command.as_slice() {
            [term] => term.fields.last().map_or("", String::as_str),
            _ => "",
        },
        _ => "",
    }
}

/// Go's truth: nothing, zero and the empty are false.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Labels by their keys, as `.Label` asks for them.
pub(super) fn label_of(labels: &HashMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}
