//! Patterns of paths: `*` is one part, `**` one or more. Used for the owner's rules and for the table of
//! the API's endpoints.

/// Whether a path's parts fit a pattern's.
pub(super) fn fits<P: AsRef<str>>(pattern: &[P], path: &[String]) -> bool {
    // After each part of the pattern: how many parts of the path may be behind it.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        for (n, name) in path.iter().enumerate() {
            next[n + 1] = match part.as_ref() {
                "**" => reached[n] || next[n],
                "*" => reached[n],
                part => reached[n] && part == name,
            };
        }
        reached = next;
    }
    reached[path.len()]
}

#[cfg(test)]
mod tests {
    #[test]
    fn fits() {
        let parts =
            |path: &str| path.split('/').skip(1).map(str::to_owned).collect::<Vec<String>>();
        for (pattern, path, fits) in [
            ("/containers/json", "/containers/json", true),
            ("/containers/json", "/containers/jsonx", false),
            ("/containers/json", "/containers/json/x", false),
            ("/containers/*/json", "/containers/a/json", true),
            ("/containers/*/json", "/containers/json", false),
            ("/containers/*/json", "/containers/a/b/json", false),
            ("/containers/*", "/containers/a/start", false),
            ("/containers/**", "/containers/a/start", true),
            ("/containers/**", "/containers/json", true),
            ("/containers/**", "/containers", false),
            ("/containers/**", "/images/containers/x", false),
            ("/images/**/json", "/images/a/b/c/json", true),
            ("/images/**/json", "/images/json", false),
            ("/**", "/anything/at/all", true),
        ] {
            let found = super::fits(&parts(pattern), &parts(path));
            assert_eq!(found, fits, "{pattern} {path}");
        }
    }
}
