//! `--format` as docker has it: "json", "table TEMPLATE" or a Go template, over rows with docker's own
//! field names or over the engine's JSON. The language is the part of Go's that people write on command
//! lines; what is not known is an error, in docker's words. Pure: it knows neither hosts nor terminals.

mod eval;
mod functions;
mod parse;

use std::collections::HashMap;

use prost_types::Timestamp;
use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use crate::{
    error::{Error, Result},
    moment,
    output::clean,
};
use eval::Eval;
use parse::Node;

/// Spaces behind the longest cell of a column, and how wide a column is at least, as docker's tables are.
const GAP: usize = 3;
const NARROWEST: usize = 10;

/// The names of a row's fields, in docker's spelling, with the headers that they have in tables.
pub(crate) type Columns = [(&'static str, &'static str)];

/// What `--format` asks for.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
    json: bool,
    table: bool,
    source: String,
}

/// One item of a list, under docker's names.
#[derive(Debug, Default)]
pub(crate) struct Row {
    fields: Value,
    labels: HashMap<String, String>,
}

impl Row {
    /// A row of these fields; `labels` answers `.Label`.
    pub(crate) fn new<const N: usize>(
        fields: [(&str, String); N],
        labels: &HashMap<String, String>,
    ) -> Self {
        let mut fields = fields.map(|(name, value)| (name.to_owned(), Value::from(value)));
        // As docker's JSON has them.
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Self { fields: Value::Object(Map::from_iter(fields)), labels: labels.clone() }
    }
}

impl Row {
    /// The same with a field that has no value.
    pub(crate) fn with_nothing(mut self, name: &str) -> Self {
        if let Value::Object(fields) = &mut self.fields {
            fields.insert(name.to_owned(), Value::Null);
            fields.sort_keys();
        }
        self
    }
}

/// A time as Go prints it, in UTC; empty where it is not known.
pub(crate) fn time(time: Option<&Timestamp>) -> String {
    let text = moment::rfc3339(time).replace('T', " ");
    match text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.') {
        "" => String::new(),
        text => format!("{text} +0000 UTC"),
    }
}

impl Template {
    /// Reads a list's `--format`; None where none is given, or only "table".
    pub(crate) fn of_list(text: Option<&str>) -> Result<Option<Self>> {
        let Some(text) = text.map(str::trim).filter(|text| !matches!(*text, "" | "table")) else {
            return Ok(None);
        };
        let table = text.strip_prefix("table");
        let body = table.unwrap_or(text).trim_matches(' ');
        let body = body.replace("\\t", "\t").replace("\\n", "\n");
        Self::read(&body, table.is_some()).map(Some)
    }

    /// Reads the `--format` of what is one thing; None where none is given.
    pub(crate) fn of_one(text: Option<&str>) -> Result<Option<Self>> {
        text.filter(|text| !text.is_empty()).map(|text| Self::read(text, false)).transpose()
    }

    fn read(text: &str, table: bool) -> Result<Self> {
        let json = text == "json" && !table;
        let nodes = parse::parse(if json { "{{json .}}" } else { text })
            .map_err(|why| Error::usage(format!("failed to parse template: {why}")))?;
        Ok(Self { nodes, json, table, source: text.to_owned() })
    }

    /// Whether it shows all as JSON, which has its own names for what templates call otherwise.
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.source.replace(' ', "") == "{{json.}}"
    }

    /// Whether it has a header.
    pub(crate) fn is_table(&self) -> bool {
        self.table
    }

    /// Whether it names a field, so that one which costs something is asked for only then.
    pub(crate) fn names(&self, field: &str) -> bool {
        self.json || self.source.contains(field)
    }

    /// All rows, as docker prints them.
    pub(crate) fn rows<'a>(
        &self,
        columns: &Columns,
        rows: impl IntoIterator<Item = &'a Row>,
    ) -> Result<String> {
        let mut text = String::new();
        if self.table {
            text.push_str(&self.header(columns)?);
        }
        for row in rows {
            text.push_str(&self.row(row)?);
        }
        Ok(if self.table { aligned(&text) } else { text })
    }

    /// One row with its line feed, cells not aligned.
    pub(crate) fn row(&self, row: &Row) -> Result<String> {
        if self.json {
            return Ok(escaped(&row.fields.to_string()) + "\n");
        }
        let label = |key: &str| eval::label_of(&row.labels, key);
        let mut eval = Eval::new(&row.fields, Some(&label));
        self.run(&mut eval)?;
        Ok(eval.out + "\n")
    }

    /// The header's line, cells not aligned.
    pub(crate) fn header(&self, columns: &Columns) -> Result<String> {
        let header = columns.iter().map(|(name, header)| ((*name).to_owned(), (*header).into()));
        let header = Value::Object(header.collect());
        let label = |key: &str| key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ");
        let mut eval = Eval::new(&header, Some(&label));
        eval.header = true;
        self.run(&mut eval)?;
        Ok(eval.out + "\n")
    }

    /// What it makes of a value, with a line feed.
    pub(crate) fn value(&self, value: &Value) -> Result<String> {
        let mut eval = Eval::new(value, None);
        self.run(&mut eval)?;
        Ok(eval.out + "\n")
    }

    fn run(&self, eval: &mut Eval<'_>) -> Result<()> {
        let root = eval.root;
        eval.run(&self.nodes, root).map_err(|why| {
            let is_missing = why.contains(eval::MISSING);
            let error = Error::usage(format!("failed to execute template: {why}"));
            match root {
                Value::Object(fields) if is_missing => error.hint(known(fields)),
                _ => error,
            }
        })
    }
}

/// The names that a template can use.
fn known(fields: &Map<String, Value>) -> String {
    let names: Vec<String> = fields.keys().map(|name| format!(".{}", clean(name))).collect();
    format!("there are {}", names.join(" "))
}

/// JSON as docker's rows are written, fit for a web page.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Lines whose cells end with tabs, in columns. The last cell of a line is as long as it is.
pub(crate) fn aligned(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        for (at, cell) in line.iter().take(line.len() - 1).enumerate() {
            let width = (cell.width() + GAP).max(NARROWEST);
            match widths.get_mut(at) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for line in &lines {
        for (at, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if at + 1 < line.len() {
                out.push_str(&" ".repeat(widths[at] - cell.width()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(template: &str) -> std::result::Result<String, String> {
        let value = json!({
            "Id": "abc", "Name": "/web", "N": 3, "None": null, "Labels": {"a": "1", "b.c": "2"},
            "List": ["x", "y"], "Mounts": [{"Source": "/a"}, {"Source": "/b"}], "State": {"Running": true},
            "Empty": [], "Html": "<a&b>", "Zero": 0,
        });
        let template = Template::of_one(Some(template)).map_err(|e| told(&e))?.unwrap();
        let text = template.value(&value).map_err(|e| told(&e))?;
        Ok(text.strip_suffix('\n').unwrap().to_owned())
    }

    fn told(error: &Error) -> String {
        error.told().unwrap().to_string()
    }

    #[test]
    fn templates_print_as_gos() {
        for (template, wanted) in [
            ("plain", "plain"),
            ("{{.Name}}", "/web"),
            ("{{ .ID }}", "abc"),
            ("{{.State.Running}} {{.N}}", "true 3"),
            ("{{json .Labels}}", r#"{"a":"1","b.c":"2"}"#),
            ("{{json .Html}}", r#""<a&b>""#),
            ("{{.Labels}} {{.List}}", "map[a:1 b.c:2] [x y]"),
            (r#"{{index .Labels "b.c"}}"#, "2"),
            (r#"{{index .Labels "no"}}"#, ""),
            ("{{index .List 1}}", "y"),
            ("{{(index .Mounts 0).Source}}", "/a"),
            ("{{range .List}}[{{.}}]{{end}}", "[x][y]"),
            ("{{range $i, $v := .List}}{{$i}}={{$v}};{{end}}", "0=x;1=y;"),
            ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=1 b.c=2 "),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{range .Mounts}}{{.Source}} {{$.Name}} {{end}}", "/a /web /b /web "),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
            ("{{if .Zero}}a{{else if eq .N 3}}b{{else}}c{{end}}", "b"),
            ("{{with .State}}{{.Running}}{{end}}", "true"),
            ("{{len .List}} {{len .None}} {{len .Name}}", "2 0 4"),
            (r#"{{join .List ","}}"#, "x,y"),
            (r#"{{.Name | upper | printf "%-6s|%s" "a"}}"#, "a     |/WEB"),
            (r#"{{upper "a"}}{{lower "B"}}{{title "ab cd"}}"#, "AbAb Cd"),
            (r#"{{printf "%s is %d %q %v%%" .Name .N "x" true}}"#, "/web is 3 \"x\" true%"),
            (r#"{{println .Name .N}}"#, "/web 3\n"),
            (r#"{{print .N .N "a"}}"#, "3 3a"),
            (r#"{{split "a/b" "/"}} {{truncate "abcdef" 3}} {{pad "x" 1 2}}."#, "[a b] abc  x  ."),
            ("a {{- .N -}} b", "a3b"),
            ("a{{/* no */}}b {{- /* trims */ -}} c", "abc"),
            ("{{$x := .N}}{{$x}}{{$x = 5}}{{$x}}", "35"),
            (r#"{{and .N (eq .Name "/web")}} {{or .Zero "z"}} {{not .N}}"#, "true z false"),
            ("{{lt .N 4}}{{ge 1 2}}{{ne .N 3}}", "truefalsefalse"),
            ("{{.None}} {{`raw\\n`}}", "[] raw\\n"),
            (r"\t{{.N}}", r"\t3"),
        ] {
            assert_eq!(value(template).as_deref(), Ok(wanted), "{template}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for (template, wanted) in [
            ("{{foo .N}}", "failed to parse template: function \"foo\" not defined"),
            ("{{.Name", "failed to parse template: unclosed action"),
            ("{{if}}x{{end}}", "failed to parse template: missing value for if"),
            ("{{}}", "failed to parse template: missing value for command"),
            ("{{if .N}}", "failed to parse template: unexpected EOF"),
            ("{{end}}", "failed to parse template: unexpected {{end}}"),
            ("{{\"a}}", "failed to parse template: unterminated quoted string"),
            ("{{(.N}}", "failed to parse template: unclosed left paren"),
            ("{{.N)}}", "failed to parse template: unexpected right paren"),
            ("{{.Foo}}", "<.Foo>: map has no entry for key \"Foo\""),
            ("{{.State.Foo.Bar}}", "map has no entry for key \"Foo\""),
            ("{{.Name.Foo}}", "can't evaluate field Foo"),
            ("{{$x}}", "undefined variable: $x"),
            ("{{index .List 9}}", "index out of range: 9"),
            ("{{printf \"%99999d\" 1}}", "a width is too large"),
            ("{{.Name .N}}", "has arguments but cannot be invoked as function"),
            ("{{range .Name}}{{end}}", "range can't iterate over /web"),
        ] {
            let error = value(template).unwrap_err();
            assert!(error.contains(wanted), "{template}: {error}");
        }
        let deep = |open: &str, close: &str| format!("{}.{}", open.repeat(999), close.repeat(999));
        assert!(value(&deep("{{if .N}}", "{{end}}")).unwrap_err().contains("too deeply"));
        let parens = format!("{{{{{}}}}}", deep("(", ")"));
        assert!(value(&parens).unwrap_err().contains("too deeply"));
    }

    #[test]
    fn rows_and_tables_are_dockers() {
        let labels = [("com.x.my-app".to_owned(), "web".to_owned())].into();
        let fields = [("Names", "web".to_owned()), ("ID", "<none>".to_owned())];
        let rows = [Row::new(fields, &labels)];
        let columns = [("ID", "CONTAINER ID"), ("Names", "NAMES")];
        let text = |format: &str| {
            Template::of_list(Some(format)).unwrap().unwrap().rows(&columns, &rows).unwrap()
        };
        assert_eq!(text("json"), "{\"ID\":\"\\u003cnone\\u003e\",\"Names\":\"web\"}\n");
        assert_eq!(text(r"{{.Names}}\t{{.ID}}"), "web\t<none>\n");
        assert_eq!(
            text(r#"table {{.Names}}\t{{upper .ID}}\t{{.Label "com.x.my-app"}}"#),
            "NAMES     CONTAINER ID   my app\nweb       <NONE>         web\n"
        );
        assert!(Template::of_list(Some("table")).unwrap().is_none());
        let unknown = Template::of_list(Some("{{.Foo}}")).unwrap().unwrap().rows(&columns, &rows);
        let told = told(&unknown.unwrap_err());
        assert!(told.contains("\"Foo\"") && told.contains("there are .ID .Names"), "{told}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[{}\-(). |$:=,"`a-fi%sNL/*\\0-9]{1,40}"#) {
            let _ = value(&text);
            let _ = value(&format!("{{{{{text}}}}}"));
        }
    }
}
