//! `.dockerignore` by docker's own rules: Go's `filepath.Match` with `**`, a pattern counts for all below
//! what it names, and the last pattern that fits decides. Pure.

/// The patterns of one file, in order.
#[derive(Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    /// It takes back what earlier ones have excluded.
    again: bool,
    text: String,
    tokens: Vec<Token>,
}

/// What one part of a pattern takes.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// This character.
    Char(char),
    /// One character, but no slash.
    One,
    /// Any characters but slashes.
    Star,
    /// Anything: `**` at the end.
    All,
    /// Nothing, or anything up to a slash and it: `**` elsewhere. It is followed by `Within`.
    Dirs,
    /// The rest of what `Dirs` has begun.
    Within,
    /// One of these ranges, or none of them; never a slash.
    Class(bool, Vec<(char, char)>),
}

impl Ignore {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the pattern that makes no sense.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut ignore = Self::default();
        for line in text.trim_start_matches('\u{feff}').lines() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            ignore.add(line.trim())?;
        }
        Ok(ignore)
    }

    /// Adds a pattern at the end.
    pub(crate) fn add(&mut self, line: &str) -> Result<(), String> {
        let (again, rest) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        if rest.is_empty() {
            return Err(format!("illegal exclusion pattern: {line:?}"));
        }
        let text = cleaned(rest);
        // What names the context itself excludes nothing, as with docker.
        if !text.is_empty() {
            let tokens =
                tokens(&text).ok_or_else(|| format!("syntax error in pattern: {rest:?}"))?;
            self.patterns.push(Pattern { again, text, tokens });
        }
        Ok(())
    }

    /// Whether a path, relative and with slashes, stays out.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        // The path and each directory above it.
        let ends: Vec<usize> =
            (0..path.len()).filter(|i| path[*i] == '/').chain([path.len()]).collect();
        let mut out = false;
        for pattern in &self.patterns {
            // Only one that would change the answer needs a look.
            if pattern.again == out && ends.iter().any(|e| fits(&pattern.tokens, &path[..*e])) {
                out = !pattern.again;
            }
        }
        out
    }

    /// Whether something below an excluded directory may come in again.
    pub(crate) fn may_return(&self, dir: &str) -> bool {
        let dir = format!("{dir}/");
        let below = |p: &&Pattern| p.again && format!("{}/", p.text).starts_with(&dir);
        self.patterns.iter().any(|p| below(&p))
    }
}

/// As Go's filepath.Clean, without the slash at the beginning.
fn cleaned(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => drop(parts.pop()),
            // Above the root there is nothing.
            ".." if pattern.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let chars: Vec<char> = pattern.chars().collect();
    let (mut tokens, mut i) = (Vec::new(), 0);
    while let Some(&c) = chars.get(i) {
        i += 1;
        match c {
            '*' if chars.get(i) == Some(&'*') => {
                i += 1;
                i += usize::from(chars.get(i) == Some(&'/'));
                match i == chars.len() {
                    true => tokens.push(Token::All),
                    false => tokens.extend([Token::Dirs, Token::Within]),
                }
            }
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::One),
            '\\' => {
                tokens.push(Token::Char(*chars.get(i)?));
                i += 1;
            }
            '[' => {
                let not = chars.get(i) == Some(&'^');
                i += usize::from(not);
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.get(i) != Some(&']') {
                    let from = member(&chars, &mut i)?;
                    let mut to = from;
                    if chars.get(i) == Some(&'-') {
                        i += 1;
                        to = member(&chars, &mut i)?;
                    }
                    ranges.push((from, to));
                }
                i += 1;
                tokens.push(Token::Class(not, ranges));
            }
            c => tokens.push(Token::Char(c)),
        }
    }
    Some(tokens)
}

/// The next character of a class.
fn member(chars: &[char], i: &mut usize) -> Option<char> {
    if chars.get(*i) == Some(&'\\') {
        *i += 1;
    }
    let c = *chars.get(*i)?;
    *i += 1;
    Some(c)
}

/// Whether the whole path fits. Goes through the path once with all places of the pattern where one may
/// be, so that no pattern takes more than its length times the path's.
fn fits(tokens: &[Token], path: &[char]) -> bool {
    let mut at = vec![false; tokens.len() + 1];
    at[0] = true;
    skip(tokens, &mut at);
    for c in path {
        let mut next = vec![false; tokens.len() + 1];
        for (place, token) in tokens.iter().enumerate().filter(|(place, _)| at[*place]) {
            match token {
                Token::Char(wanted) => next[place + 1] |= wanted == c,
                Token::One => next[place + 1] |= *c != '/',
                Token::Star => next[place] |= *c != '/',
                Token::All => next[place] = true,
                Token::Dirs => {
                    next[place + 1] = true;
                    next[place + 2] |= *c == '/';
                }
                Token::Within => {
                    next[place] = true;
                    next[place + 1] |= *c == '/';
                }
                Token::Class(not, ranges) => {
                    let within = ranges.iter().any(|(from, to)| (from..=to).contains(&c));
                    next[place + 1] |= *c != '/' && within != *not;
                }
            }
        }
        at = next;
        skip(tokens, &mut at);
    }
    at[tokens.len()]
}

/// Goes on past what may be nothing.
fn skip(tokens: &[Token], at: &mut [bool]) {
    for (place, token) in tokens.iter().enumerate() {
        match token {
            Token::Star | Token::All => at[place + 1] |= at[place],
            Token::Dirs => at[place + 2] |= at[place],
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn excluded(file: &str, path: &str) -> bool {
        Ignore::parse(file).unwrap().excludes(path)
    }

    #[test]
    fn patterns_are_dockers() {
        for (pattern, path, out) in [
            ("a", "a", true),
            ("a", "b/a", false),
            ("a", "a/b/c", true),
            ("/a/", "a/b", true),
            ("./a", "a", true),
            ("b/../a", "a", true),
            ("*.log", "x.log", true),
            ("*.log", "d/x.log", false),
            ("*/x", "d/x", true),
            ("*/x", "d/e/x", false),
            ("**/x", "x", true),
            ("**/x", "d/e/x", true),
            ("**/x", "d/ex", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a**b", "ab", true),
            ("a**b", "axb", false),
            ("**", "anything/at/all", true),
            ("**/*.log", "d/e/x.log", true),
            ("x?", "xy", true),
            ("x?", "x/", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("a.b", "axb", false),
            ("x ", "x", true),
            ("#x", "#x", false),
            (".", "x", false),
            ("a\n!a/keep", "a/keep", false),
            ("a\n!a/keep", "a/other", true),
            ("!a/keep\na", "a/keep", true),
            ("*\n!*.md\nsecret.md", "readme.md", false),
            ("*\n!*.md\nsecret.md", "secret.md", true),
            ("\u{feff}a", "a", true),
        ] {
            assert_eq!(excluded(pattern, path), out, "{pattern:?} {path:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for bad in ["!", "[", "[a", "[a-", "x\\"] {
            assert!(Ignore::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_excluded_directory_is_entered_only_for_what_comes_back() {
        let ignore = Ignore::parse("a\n!a/b/c").unwrap();
        assert!(ignore.may_return("a") && ignore.may_return("a/b"));
        assert!(!ignore.may_return("b") && !ignore.may_return("a/x"));
    }

    proptest! {
        #[test]
        fn nothing_panics_or_takes_for_ever(pattern in "[*?a/\\\\!\\[\\]^-]{0,40}", path in "[a/]{1,200}") {
            if let Ok(ignore) = Ignore::parse(&pattern) {
                ignore.excludes(&path);
            }
        }
    }
}
