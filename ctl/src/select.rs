//! Which containers a command works on when it does not name them one by one: `--on` (agents), `-l`
//! (labels) and globs in references. What is selected is found in the fleet's list, which is one call
//! however many hosts there are.

use std::{collections::HashMap, str::FromStr};

use dockctl_api::v1::{Agent, AgentView, Container, ListContainersRequest};

use crate::{
    error::{Error, Exit, Result},
    output::clean,
    refs::Ref,
    resolve,
    session::Session,
};

/// An id's beginning has at least this many digits: with fewer, a mistyped name hits a container.
pub(crate) const SHORTEST_ID: usize = 4;

/// `--on`: agents by their names or ids, or globs over their names, several with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct On(Vec<String>);

impl FromStr for On {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts: Vec<String> = text.split(',').map(|p| p.trim().to_owned()).collect();
        match parts.iter().all(|p| !p.is_empty()) {
            true => Ok(Self(parts)),
            false => Err("name an agent, or several with commas: web-1,'db-*'".to_owned()),
        }
    }
}

impl On {
    /// The agent that is meant, if it is named plainly.
    pub(crate) fn agent(on: Option<&Self>) -> Option<&str> {
        match on.map(|on| on.0.as_slice()) {
            Some([one]) if !is_glob(one) => Some(one),
            _ => None,
        }
    }
}

/// The agents that `--on` means. Those that join later and fit count too.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// None means all.
    globs: Option<Vec<String>>,
}

impl Hosts {
    /// Looks up what `on` means. Fails with exit 4 where a part of it fits no agent.
    pub(crate) async fn new(session: &Session, on: Option<&On>) -> Result<Self> {
        let Some(on) = on else { return Ok(Self::default()) };
        let agents = resolve::agents(session, "").await?;
        let names: Result<Vec<String>> = on.0.iter().map(|part| part_of(part, &agents)).collect();
        Ok(Self { globs: Some(names?) })
    }

    /// The names of the agents that are meant now.
    pub(crate) async fn names(session: &Session, on: Option<&On>) -> Result<Vec<String>> {
        let hosts = Self::new(session, on).await?;
        let names = resolve::agents(session, "").await?.into_iter().map(|agent| agent.name);
        Ok(names.filter(|name| hosts.fits(name)).collect())
    }

    /// Whether an agent is meant.
    pub(crate) fn fits(&self, agent: &str) -> bool {
        self.globs.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob_fits(glob, agent)))
    }

    /// Leaves the views of these agents.
    pub(crate) fn keep(&self, views: &mut Vec<AgentView>) {
        views.retain(|view| self.fits(&view.agent));
    }
}

/// A part of `--on` as a glob over names.
fn part_of(part: &str, agents: &[Agent]) -> Result<String> {
    if let Some(agent) = agents.iter().find(|a| a.id == part) {
        return Ok(agent.name.clone());
    }
    if agents.iter().any(|a| glob_fits(part, &a.name)) {
        return Ok(part.to_owned());
    }
    let message = match is_glob(part) {
        true => format!("no agent's name fits {}", clean(part)),
        false => format!("no agent is called {}", clean(part)),
    };
    Err(Error::new(Exit::NotFound, message).hint("see which agents there are: dockctl agents ls"))
}

/// What was selected on the command line.
#[derive(Debug)]
pub(crate) struct Selection {
    hosts: Hosts,
    /// "k=v" or "k"; all must fit.
    labels: Vec<String>,
    /// At least one must fit, if there is any.
    refs: Vec<Ref>,
}

impl Selection {
    /// Whether a command line selects: else it names its containers, if any, one by one.
    pub(crate) fn is_one(on: Option<&On>, labels: &[String], refs: &[Ref]) -> bool {
        on.is_some() || !labels.is_empty() || refs.iter().any(Ref::is_glob)
    }

    /// Looks up what is selected; nothing selects all.
    pub(crate) async fn new(
        session: &Session,
        on: Option<&On>,
        labels: &[String],
        refs: &[Ref],
    ) -> Result<Self> {
        let labels = labels.iter().flat_map(|l| l.split(',')).map(|l| l.trim().to_owned());
        Ok(Self {
            hosts: Hosts::new(session, on).await?,
            labels: labels.filter(|l| !l.is_empty()).collect(),
            refs: refs.to_vec(),
        })
    }

    /// Whether it selects by labels, which not every message tells.
    pub(crate) fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// The agents that are meant.
    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Whether a container is selected.
    pub(crate) fn fits(
        &self,
        agent: &str,
        id: &str,
        name: &str,
        labels: &HashMap<String, String>,
    ) -> bool {
        self.hosts.fits(agent)
            && self.labels.iter().all(|wanted| label_fits(wanted, labels))
            && (self.refs.is_empty() || self.refs.iter().any(|r| ref_fits(r, agent, id, name)))
    }

    /// Whether a listed container is selected.
    pub(crate) fn has(&self, c: &Container) -> bool {
        self.fits(&c.agent, &c.id, &c.name, &c.labels)
    }

    /// A list's request with what the controller can select by itself.
    pub(crate) fn request(&self) -> ListContainersRequest {
        let label_selector = self.labels.join(",");
        ListContainersRequest { label_selector, ..ListContainersRequest::default() }
    }

    /// The selected containers of the fleet, running or not; of one agent, if one is given, as its
    /// engine has them now.
    pub(crate) async fn list(&self, session: &Session, agent: &str) -> Result<Vec<Container>> {
        let request =
            ListContainersRequest { agent: agent.to_owned(), all: true, ..self.request() };
        let mut found = resolve::list(session, request).await?.containers;
        found.retain(|c| self.has(c));
        Ok(found)
    }

    /// The references that none of the containers fits.
    pub(crate) fn unmet<'a>(&'a self, found: &'a [Container]) -> impl Iterator<Item = &'a Ref> {
        let met = |r: &Ref| found.iter().any(|c| ref_fits(r, &c.agent, &c.id, &c.name));
        self.refs.iter().filter(move |r| !met(r))
    }
}

/// A container as people write it.
pub(crate) fn shown(c: &Container) -> String {
    let name = if c.name.is_empty() { &c.id } else { &c.name };
    format!("{}/{name}", c.agent)
}

/// The failure of a reference, or a selection, that fits nothing.
pub(crate) fn nothing(wanted: Option<&Ref>) -> Error {
    let error =
        Error::new(Exit::NotFound, "no container fits").hint("see which there are: dockctl ps -a");
    match wanted {
        Some(wanted) => error.about(clean(&wanted.to_string())),
        None => error,
    }
}

/// Whether labels have "k=v" or "k", as the controller selects by them.
pub(crate) fn label_fits(wanted: &str, labels: &HashMap<String, String>) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key.trim()).is_some_and(|v| v.trim() == value.trim()),
        None => labels.contains_key(wanted),
    }
}

fn ref_fits(wanted: &Ref, agent: &str, id: &str, name: &str) -> bool {
    let is_id = wanted.container.len() >= SHORTEST_ID && id.starts_with(&wanted.container);
    wanted.host.as_ref().is_none_or(|host| glob_fits(host, agent))
        && (glob_fits(&wanted.container, name) || is_id)
}

/// Whether a text has what makes it a glob.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a name fits a glob: `*` stands for any characters, `?` for one.
pub(crate) fn glob_fits(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut g, mut n) = (0, 0);
    // Where to go on with one character more for the last star: linear for one star, and never worse
    // than the product of both lengths.
    let mut back = None;
    while n < name.len() {
        match glob.get(g) {
            Some('*') => {
                back = Some((g, n));
                g += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (g, n) = (g + 1, n + 1),
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (g, n) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs() {
        for (glob, name, fits) in [
            ("web-*", "web-1", true),
            ("web-*", "web-", true),
            ("web-*", "db-web-1", false),
            ("*-1", "web-1", true),
            ("w*b-?", "web-1", true),
            ("w*b-?", "web-10", false),
            ("*a*b*", "xxabab", true),
            ("*", "", true),
            ("?", "", false),
            ("web-1", "web-1", true),
            ("web-1", "web-11", false),
        ] {
            assert_eq!(glob_fits(glob, name), fits, "{glob} {name}");
        }
    }

    #[test]
    fn a_plain_name_means_one_agent() {
        let on = |text: &str| text.parse::<On>();
        assert_eq!(On::agent(Some(&on("web-1").unwrap())), Some("web-1"));
        assert_eq!(On::agent(Some(&on("web-*").unwrap())), None);
        assert_eq!(On::agent(Some(&on("web-1,db-1").unwrap())), None);
        assert_eq!(On::agent(None), None);
        assert!(on("").is_err() && on("web-1,").is_err());
    }

    #[test]
    fn hosts_labels_and_references_must_all_fit() {
        let labels: HashMap<String, String> = [("app".to_owned(), "web".to_owned())].into();
        let hosts = |globs: &[&str]| Hosts {
            globs: (!globs.is_empty()).then(|| globs.iter().map(|g| (*g).to_owned()).collect()),
        };
        let fits = |globs: &[&str], wanted: &[&str], refs: &[&str]| {
            let selection = Selection {
                hosts: hosts(globs),
                labels: wanted.iter().map(|l| (*l).to_owned()).collect(),
                refs: refs.iter().map(|r| r.parse().unwrap()).collect(),
            };
            selection.fits("web-1", "3f2a4b", "front", &labels)
        };
        assert!(fits(&[], &[], &[]));
        assert!(fits(&["db-*", "web-*"], &["app=web", "app"], &["*/fr*"]));
        assert!(fits(&[], &[], &["nope", "front"]));
        assert!(fits(&[], &[], &["web-1/3f2a"]));
        assert!(!fits(&[], &[], &["web-1/3f2"]), "too short for an id");
        assert!(!fits(&["db-*"], &[], &[]));
        assert!(!fits(&[], &["app=db"], &[]));
        assert!(!fits(&[], &[], &["db-*/front"]));
    }

    proptest! {
        #[test]
        fn a_name_fits_itself_and_what_is_made_of_it(name in "[a-c]{0,8}", at in 0usize..9) {
            prop_assert!(glob_fits(&name, &name));
            let at = at.min(name.len());
            let star = format!("{}*", &name[..at]);
            let middle = format!("*{}", &name[at..]);
            prop_assert!(glob_fits(&star, &name) && glob_fits(&middle, &name));
        }
    }
}
