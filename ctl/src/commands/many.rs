//! Working on many containers at once: each that is done is printed on stdout as docker does, failures
//! come at the end on stderr. What is named one by one is worked on at once, and the worst failure decides
//! the exit code; a selection is listed first, asks, is summed up, and ends with 1 if any part failed. [`selected`] serves every verb.

use std::{collections::BTreeMap, fmt, future::Future};

use dockctl_api::v1::Container;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{AT_ONCE, Ctx};
use crate::{
    args::{Format, Many},
    error::{Error, Exit, Result},
    output::{self, clean, human, spinner},
    refs::Ref,
    resolve::{self, Target},
    select::{self, Selection},
};

/// Hosts that a question lists; of more it says how many.
const ASKED: usize = 40;

/// What can be done to many containers.
pub(super) struct Verb {
    /// Its name: "stop".
    pub(super) name: &'static str,
    /// What was done: "stopped".
    pub(super) past: &'static str,
    /// Which containers of a selection it is for; one that is named is worked on in any state.
    pub(super) is_for: fn(&Container) -> bool,
    /// What to do where a selection has none of these; empty for nothing.
    pub(super) otherwise: &'static str,
}

impl Verb {
    /// A verb for containers in any state.
    pub(super) const fn new(name: &'static str, past: &'static str) -> Self {
        Self { name, past, is_for: |_| true, otherwise: "" }
    }
}

/// A selected container.
struct Picked(Container);

impl fmt::Display for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clean(&select::shown(&self.0)))
    }
}

/// Does a verb to what was named.
pub(super) async fn named<F, Fut>(
    ctx: &Ctx,
    refs: &[Ref],
    at_once: usize,
    verb: &Verb,
    run: F,
) -> Result<()>
where
    F: Fn(Target) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let run = &run;
    let results = all(ctx, refs, at_once, verb, &Vec::new, |wanted| one(ctx, wanted, run)).await?;
    fail(ctx, failures(results))
}

/// Does a verb to what was named, or to a selection after a question.
pub(super) async fn selected<F, Fut>(ctx: &Ctx, many: &Many, verb: &Verb, run: F) -> Result<()>
where
    F: Fn(Target) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let at_once = usize::from(many.parallel);
    if !many.selects() {
        return named(ctx, &many.containers, at_once, verb, run).await;
    }
    let run = &run;
    let picked = pick(ctx, many, verb).await?;
    let one = |picked: &Picked| {
        let Picked(c) = picked;
        let target = Target { agent: c.agent.clone(), container: c.id.clone() };
        let shown = picked.to_string();
        // Not explained further: that would be calls for each of hundreds.
        async { run(target).await.map_err(|error| error.about(shown)) }
    };
    let results = all(ctx, &picked, at_once, verb, &Vec::new, one).await?;
    if !picked.is_empty() {
        let failed = results.iter().filter(|result| result.is_err()).count();
        ctx.term.notice(&summary(verb, picked.len(), failed));
    }
    fail(ctx, failures(results)).map_err(of_a_selection)
}

/// Does a verb on hosts that were selected, and sums up. Meanwhile a person sees what `parts` says.
pub(super) async fn on_hosts<'i, I, F, Fut>(
    ctx: &Ctx,
    hosts: &'i [I],
    at_once: usize,
    verb: &Verb,
    parts: &dyn Fn() -> Vec<String>,
    run: F,
) -> Result<()>
where
    I: fmt::Display,
    F: Fn(&'i I) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let results = all(ctx, hosts, at_once, verb, parts, run).await?;
    let failed = results.iter().filter(|result| result.is_err()).count();
    ctx.term.notice(&summary(verb, hosts.len(), failed));
    fail(ctx, failures(results)).map_err(of_a_selection)
}

/// A selection of which a part failed has failed, whichever part it was.
fn of_a_selection(error: Error) -> Error {
    error.with_code(Exit::Failed as u8)
}

/// `stopped 41, failed 2 of 43`.
fn summary(verb: &Verb, total: usize, failed: usize) -> String {
    let done = format!("{} {}", verb.past, total - failed);
    match failed {
        0 => format!("{done} of {total}"),
        _ => format!("{done}, failed {failed} of {total}"),
    }
}

/// What is selected and in a state that the verb is for; the user has agreed to it.
async fn pick(ctx: &Ctx, many: &Many, verb: &Verb) -> Result<Vec<Picked>> {
    let looking = "looking for the containers";
    let (on, labels) = (many.selector.on.as_ref(), &many.selector.label);
    let selecting = Selection::new(&ctx.session, on, labels, &many.containers);
    let selection = ctx.wait(looking, selecting).await?;
    let mut found = ctx.wait(looking, selection.list(&ctx.session, "")).await?;
    // Before anything is done: a part that fits nothing is a mistake.
    if let Some(unmet) = selection.unmet(&found).next() {
        return Err(select::nothing(Some(unmet)));
    }
    let fitting = found.len();
    found.retain(verb.is_for);
    match (fitting, found.len()) {
        (0, _) => return Err(select::nothing(None)),
        (_, 0) => {
            let help = if verb.otherwise.is_empty() { "" } else { "; " };
            ctx.term.notice(&format!(
                "nothing to {}: {fitting} fit, none in a state for it{help}{}",
                verb.name, verb.otherwise
            ));
        }
        _ => ask(ctx, many.yes, verb, &found)?,
    }
    Ok(found.into_iter().map(Picked).collect())
}

/// Says what would be done, and asks.
fn ask(ctx: &Ctx, yes: bool, verb: &Verb, found: &[Container]) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !ctx.term.input {
        let what = format!("this would {} {}", verb.name, human::counted(found.len(), "container"));
        return Err(Error::usage(format!("{what}, and nobody is there to be asked"))
            .hint("pass --yes to do it without a question"));
    }
    ctx.term.notice(&question(verb, found));
    ctx.confirm(false, "Go on?")
}

/// What would be done, a line for each host.
fn question(verb: &Verb, found: &[Container]) -> String {
    let mut hosts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for c in found {
        let name = clean(if c.name.is_empty() { &c.id } else { &c.name });
        let away = if c.stale { " (host away)" } else { "" };
        hosts.entry(&c.agent).or_default().push(name + away);
    }
    let (count, all) = (human::counted(found.len(), "container"), hosts.len());
    let mut lines =
        vec![format!("This will {} {count} on {}:", verb.name, human::counted(all, "host"))];
    let line =
        |(host, names): (&&str, &Vec<String>)| format!("  {}: {}", clean(host), names.join(", "));
    lines.extend(hosts.iter().take(ASKED).map(line));
    if let Some(more @ 1..) = all.checked_sub(ASKED) {
        lines.push(format!("  … and those on {}", human::counted(more, "more host")));
    }
    lines.join("\n")
}

/// Runs an action on all items, prints what is done, and gives how each went.
async fn all<'i, I, F, Fut>(
    ctx: &Ctx,
    items: &'i [I],
    at_once: usize,
    verb: &Verb,
    parts: &dyn Fn() -> Vec<String>,
    run: F,
) -> Result<Vec<Result<()>>>
where
    I: fmt::Display,
    F: Fn(&'i I) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let table = ctx.format == Format::Table;
    // A reader that went away must not keep the other containers from being stopped.
    let mut printed = Ok(());
    let done = |item: &I, result: &Result<()>| {
        if table && result.is_ok() && printed.is_ok() {
            printed = output::print(format!("{item}\n").as_bytes());
        }
    };
    let results = each_item(ctx, items, at_once, parts, run, done).await;
    if !table {
        let told = items.iter().zip(&results).map(|(item, x)| told(verb.name, item, x));
        ctx.print_document(&Value::Array(told.collect()))?;
    }
    // Failures are told even where nobody reads what was done.
    if let Err(error) = printed {
        fail(ctx, failures(results))?;
        return Err(error.into());
    }
    Ok(results)
}

fn told(action: &str, item: &impl fmt::Display, result: &Result<()>) -> Value {
    let error = result.as_ref().err().and_then(Error::told);
    json!({
        "ref": item.to_string(),
        "action": action,
        "done": error.is_none(),
        "error": error.map(|f| f.message.clone()),
        "reason": error.and_then(|f| f.reason.clone()),
    })
}

/// Resolves and runs many references, some at a time. `done` is told each result as it comes; the
/// results are in the order of `refs`, failures explained.
pub(super) async fn each<T, F, Fut>(
    ctx: &Ctx,
    refs: &[Ref],
    run: F,
    done: impl FnMut(&Ref, &Result<T>),
) -> Vec<Result<T>>
where
    F: Fn(Target) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let run = &run;
    each_item(ctx, refs, AT_ONCE, &Vec::new, |wanted| one(ctx, wanted, run), done).await
}

/// Runs many items, some at a time; the results are in the order of the items.
async fn each_item<'i, I, T, F, Fut>(
    ctx: &Ctx,
    items: &'i [I],
    at_once: usize,
    parts: &dyn Fn() -> Vec<String>,
    run: F,
    mut done: impl FnMut(&I, &Result<T>),
) -> Vec<Result<T>>
where
    I: fmt::Display,
    F: Fn(&'i I) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let run = &run;
    let one = |(index, item)| async move { (index, run(item).await) };
    let mut running = stream::iter(items.iter().enumerate().map(one)).buffer_unordered(at_once);
    let mut results: Vec<Option<Result<T>>> = items.iter().map(|_| None).collect();
    let what = match items {
        [one] => format!("waiting for {one}"),
        many => format!("waiting for all {}", many.len()),
    };
    while let Some((index, result)) = spinner::wait(ctx.term, &what, parts, running.next()).await {
        done(&items[index], &result);
        results[index] = Some(result);
    }
    results.into_iter().flatten().collect()
}

/// Resolves and runs one reference.
pub(super) async fn one<T, F, Fut>(ctx: &Ctx, wanted: &Ref, run: &F) -> Result<T>
where
    F: Fn(Target) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let target = match resolve::resolve(&ctx.session, wanted).await {
        Err(error) => return Err(error.about(wanted.to_string())),
        Ok(target) => target,
    };
    match run(target.clone()).await {
        Err(error) => Err(resolve::explain(&ctx.session, &target, error).await),
        done => done,
    }
}

fn failures<T>(results: Vec<Result<T>>) -> Vec<Error> {
    results.into_iter().filter_map(Result::err).collect()
}

/// Tells all failures but the worst, and returns that one.
pub(super) fn fail(ctx: &Ctx, mut failures: Vec<Error>) -> Result<()> {
    failures.sort_by_key(Error::code);
    let Some(worst) = failures.pop() else { return Ok(()) };
    for failure in failures.iter().filter_map(Error::told) {
        ctx.term.notice(&format!("dockctl: {failure}"));
    }
    Err(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Verb = Verb::new("stop", "stopped");

    #[test]
    fn a_selection_is_summed_up() {
        assert_eq!(summary(&STOP, 43, 2), "stopped 41, failed 2 of 43");
        assert_eq!(summary(&STOP, 43, 0), "stopped 43 of 43");
    }

    #[test]
    fn a_question_says_what_will_be_done() {
        let container = |agent: &str, name: &str, stale| Container {
            agent: agent.to_owned(),
            name: name.to_owned(),
            stale,
            ..Container::default()
        };
        let mut found = vec![
            container("web-1", "a", false),
            container("web-2", "a", true),
            container("web-1", "b\x1b[2J", false),
        ];
        assert_eq!(
            question(&STOP, &found),
            "This will stop 3 containers on 2 hosts:\n  web-1: a, b\n  web-2: a (host away)"
        );
        let alone = question(&STOP, &found[..1]);
        assert!(alone.starts_with("This will stop 1 container on 1 host:"), "{alone}");
        found = (0..50).map(|n| container(&format!("h-{n}"), "a", false)).collect();
        let text = question(&STOP, &found);
        assert_eq!(text.lines().count(), 42);
        assert!(text.ends_with("… and those on 10 more hosts"), "{text}");
    }
}
