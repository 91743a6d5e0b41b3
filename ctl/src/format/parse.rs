//! From the text of a Go template to its nodes: actions, strings, pipelines and the blocks that `if`,
//! `with`, `range` and `end` make. Whatever is written, parsing ends and nests no deeper than a bound.

/// Blocks and parentheses within one another, at most.
const DEEPEST: usize = 64;

/// What a template can call.
const FUNCTIONS: [&str; 22] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "split", "title", "truncate", "upper",
];

/// A part of a template.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    /// A pipeline whose value is printed, unless it declares a variable.
    Action(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
}

/// Commands, each of which is given the value of the one before it as its last argument.
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    /// The variables that it sets.
    pub(super) variables: Vec<String>,
    /// Whether they are new: `:=`, not `=`.
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Term>>,
}

/// An operand with the fields that are taken from it.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(String),
    Constant(serde_json::Value),
    Pipe(Box<Pipe>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// ".A.B" as its names; without any it is the dot itself. `spaced` where it stands by itself.
    Fields {
        names: Vec<String>,
        spaced: bool,
    },
    Variable(String),
    Word(String),
    Text(String),
    Number(serde_json::Number),
    Sign(&'static str),
}

enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// Parses a whole template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, String> {
    let mut parser = Parser { pieces: pieces(source)?.into_iter(), depth: 0 };
    match parser.block()? {
        (nodes, End::Text) => Ok(nodes),
        (_, End::Block) => Err("unexpected {{end}}".to_owned()),
        (_, End::Else | End::Chain(_)) => Err("unexpected {{else}}".to_owned()),
    }
}

/// Text and actions in turn, with what the trim markers take away gone.
fn pieces(mut rest: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut trim = false;
    while let Some(at) = rest.find("{{") {
        let (mut text, mut action) = (&rest[..at], &rest[at + 2..]);
        if trim {
            text = text.trim_start();
        }
        if let Some(after) = action.strip_prefix("- ") {
            (text, action) = (text.trim_end(), after);
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let spaceless = action.trim_start();
        if let Some(comment) = spaceless.strip_prefix("/*") {
            let (_, after) = comment.split_once("*/").ok_or("unclosed comment")?;
            trim = after.trim_start().starts_with("-}}");
            let after = after.trim_start().trim_start_matches('-');
            rest = after.strip_prefix("}}").ok_or("comment ends before closing delimiter")?;
            continue;
        }
        let (tokens, after, trims) = tokens(action)?;
        pieces.push(Piece::Action(tokens));
        (rest, trim) = (after, trims);
    }
    let text = if trim { rest.trim_start() } else { rest };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
    Ok(pieces)
}

/// The tokens of an action, what comes after it, and whether that is trimmed.
fn tokens(mut rest: &str) -> Result<(Vec<Token>, &str, bool), String> {
    let mut tokens = Vec::new();
    let mut spaced = true;
    loop {
        let trimmed = rest.trim_start();
        spaced |= trimmed.len() < rest.len();
        if spaced && let Some(after) = trimmed.strip_prefix("-}}") {
            return Ok((tokens, after, true));
        }
        if let Some(after) = trimmed.strip_prefix("}}") {
            return Ok((tokens, after, false));
        }
        let first = trimmed.chars().next().ok_or("unclosed action")?;
        let (token, after) = match first {
            '"' => quoted(trimmed)?,
            '`' => {
                let end = trimmed[1..].find('`').ok_or("unterminated raw quoted string")?;
                (Token::Text(trimmed[1..=end].to_owned()), &trimmed[end + 2..])
            }
            '.' => {
                let (mut names, mut after) = (Vec::new(), trimmed);
                while let Some(name) = after.strip_prefix('.').map(word).filter(|n| !n.is_empty()) {
                    names.push(name.to_owned());
                    after = &after[1 + name.len()..];
                }
                let after = if names.is_empty() { &trimmed[1..] } else { after };
                (Token::Fields { names, spaced }, after)
            }
            '$' => {
                let name = word(&trimmed[1..]);
                (Token::Variable(name.to_owned()), &trimmed[1 + name.len()..])
            }
            '0'..='9' | '-' | '+' => {
                let len = trimmed[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
                let len = len.map_or(trimmed.len(), |len| len + 1);
                let number = trimmed[..len].trim_start_matches('+').parse();
                let number =
                    number.map_err(|_| format!("bad number syntax: {}", &trimmed[..len]))?;
                (Token::Number(number), &trimmed[len..])
            }
            c if c.is_alphabetic() || c == '_' => {
                let name = word(trimmed);
                (Token::Word(name.to_owned()), &trimmed[name.len()..])
            }
            c => {
                let sign = [":=", "=", "|", "(", ")", ","].into_iter();
                let sign = sign.clone().find(|sign| trimmed.starts_with(sign));
                let sign = sign.ok_or(format!("unexpected {c:?} in command"))?;
                (Token::Sign(sign), &trimmed[sign.len()..])
            }
        };
        tokens.push(token);
        (rest, spaced) = (after, false);
    }
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// A string in quotes with Go's usual escapes.
fn quoted(text: &str) -> Result<(Token, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), &text[at + 1..])),
            '\\' => out.push(match chars.next().map(|(_, c)| c) {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(c @ ('\\' | '"' | '\'')) => c,
                _ => return Err("invalid escape in a string".to_owned()),
            }),
            '\n' => break,
            c => out.push(c),
        }
    }
    Err("unterminated quoted string".to_owned())
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

/// What has ended a block.
enum End {
    /// The template itself.
    Text,
    /// `end`.
    Block,
    Else,
    /// `else if …`, as the action of that `if`.
    Chain(Vec<Token>),
}

type Make = fn(Pipe, Vec<Node>, Vec<Node>) -> Node;

impl Parser {
    /// Nodes, and what has ended them.
    fn block(&mut self) -> Result<(Vec<Node>, End), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let keyword = match tokens.first() {
                Some(Token::Word(word)) => word.as_str(),
                None => return Err("missing value for command".to_owned()),
                _ => "",
            };
            match keyword {
                "end" => return Ok((nodes, End::Block)),
                "else" if tokens.len() == 1 => return Ok((nodes, End::Else)),
                "else" => return Ok((nodes, End::Chain(tokens[1..].to_vec()))),
                "if" | "with" | "range" => nodes.push(self.control(&tokens)?),
                "template" | "define" | "block" | "break" | "continue" => {
                    return Err(format!("{{{{{keyword}}}}} is not known here"));
                }
                _ => nodes.push(Node::Action(pipe(&tokens, "command")?)),
            }
        }
        Ok((nodes, End::Text))
    }

    /// `if`, `with` or `range` with all that belongs to it.
    fn control(&mut self, tokens: &[Token]) -> Result<Node, String> {
        let (make, name): (Make, _) = match tokens.first() {
            Some(Token::Word(word)) if word == "if" => (Node::If, "if"),
            Some(Token::Word(word)) if word == "with" => (Node::With, "with"),
            Some(Token::Word(word)) if word == "range" => (Node::Range, "range"),
            _ => return Err("unexpected token in {{else}}".to_owned()),
        };
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("blocks are nested too deeply".to_owned());
        }
        let pipe = pipe(&tokens[1..], name)?;
        let (then, end) = self.block()?;
        let otherwise = match end {
            End::Text => return Err("unexpected EOF".to_owned()),
            End::Block => Vec::new(),
            End::Chain(tokens) => vec![self.control(&tokens)?],
            End::Else => match self.block()? {
                (otherwise, End::Block) => otherwise,
                (_, End::Text) => return Err("unexpected EOF".to_owned()),
                _ => return Err("expected end; found {{else}}".to_owned()),
            },
        };
        self.depth -= 1;
        Ok(make(pipe, then, otherwise))
    }
}

/// All of an action as a pipeline; `what` it is for.
fn pipe(tokens: &[Token], what: &str) -> Result<Pipe, String> {
    let mut tokens = tokens.iter().peekable();
    let pipe = pipeline(&mut tokens, what, 0)?;
    match tokens.next() {
        None => Ok(pipe),
        Some(_) => Err("unexpected right paren".to_owned()),
    }
}

type Tokens<'a> = std::iter::Peekable<std::slice::Iter<'a, Token>>;

fn pipeline(tokens: &mut Tokens<'_>, what: &str, depth: usize) -> Result<Pipe, String> {
    if depth > DEEPEST {
        return Err("parentheses are nested too deeply".to_owned());
    }
    let (mut variables, mut declares) = (Vec::new(), false);
    let mut ahead = tokens.clone();
    while let Some(Token::Variable(name)) = ahead.next() {
        variables.push(name.clone());
        match ahead.next() {
            Some(Token::Sign(",")) if what == "range" => {}
            Some(Token::Sign(sign @ (":=" | "="))) => {
                declares = *sign == ":=";
                *tokens = ahead;
                break;
            }
            _ => {
                variables.clear();
                break;
            }
        }
    }
    let (mut commands, mut command) = (Vec::new(), Vec::new());
    loop {
        let base = match tokens.peek() {
            None | Some(Token::Sign(")" | "|")) if command.is_empty() => {
                return Err(format!("missing value for {what}"));
            }
            None | Some(Token::Sign(")")) => {
                commands.push(command);
                return Ok(Pipe { variables, declares, commands });
            }
            Some(Token::Sign("|")) => {
                commands.push(std::mem::take(&mut command));
                tokens.next();
                continue;
            }
            Some(Token::Sign("(")) => {
                tokens.next();
                let inner = pipeline(tokens, "parenthesized pipeline", depth + 1)?;
                match tokens.peek() {
                    Some(Token::Sign(")")) => Base::Pipe(Box::new(inner)),
                    _ => return Err("unclosed left paren".to_owned()),
                }
            }
            Some(Token::Sign(sign)) => return Err(format!("unexpected {sign:?} in operand")),
            Some(Token::Variable(name)) => Base::Variable(name.clone()),
            Some(Token::Text(text)) => Base::Constant(text.as_str().into()),
            Some(Token::Number(number)) => Base::Constant(number.clone().into()),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Base::Constant(true.into()),
                "false" => Base::Constant(false.into()),
                "nil" => Base::Constant(serde_json::Value::Null),
                name if FUNCTIONS.contains(&name) => Base::Function(name.to_owned()),
                name => return Err(format!("function {name:?} not defined")),
            },
            Some(Token::Fields { .. }) => Base::Dot,
        };
        let mut fields = Vec::new();
        if !matches!(tokens.peek(), Some(Token::Fields { .. })) {
            tokens.next();
        } else if let Some(Token::Fields { names, .. }) = tokens.next() {
            fields.extend(names.iter().cloned());
        }
        // Fields right behind an operand are taken from it.
        while let Some(Token::Fields { names, spaced: false }) = tokens.peek() {
            fields.extend(names.iter().cloned());
            tokens.next();
        }
        command.push(Term { base, fields });
    }
}
