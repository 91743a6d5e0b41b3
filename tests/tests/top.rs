//! dockctl top on a terminal of 80 columns and 24 lines, with real containers.

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::AgentState;
use dockctl_tests::{Dockctl, Docker, LONG, Screen, World, await_until, counting_script, scenario};

const IDLE: &str = "exec sleep 100000";

async fn start(world: &World, dockctl: &Dockctl<'_>, docker: &Docker) -> Result<Screen> {
    let mut command = dockctl.command(&["top", "-l", &docker.selector()])?;
    command.env("TERM", "screen");
    Screen::start(world, &command).await
}

/// The rows' names in their order.
fn rows(text: &str, names: &[String]) -> Vec<String> {
    let rows = text.lines().skip(2).take(21); // below are messages
    rows.filter_map(|row| names.iter().find(|n| row.contains(n.as_str())).cloned()).collect()
}

fn whole_lines(text: &str) -> Result<()> {
    ensure!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    Ok(())
}

#[test]
fn top_sorts_filters_follows_logs_and_stops() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let busy = docker.run("zz-busy", "while :; do :; done").await?.name;
        let idle = docker.run("aa-idle", IDLE).await?.name;
        let counts = docker.run("mm-counts", counting_script()).await?.name;
        let names = [busy.clone(), idle.clone(), counts.clone()];
        let dockctl = controller.dockctl().await?;
        let screen = start(world, &dockctl, &docker).await?;
        let text = screen
            .shows("the busiest on top", |text| {
                let rows = rows(text, &names);
                rows.len() == 3 && rows[0] == busy && text.contains("running 3 of 3")
            })
            .await?;
        whole_lines(&text)?;
        ensure!(
            text.lines().nth(1).is_some_and(|l| l.starts_with("HOST") && l.contains("CPU %▼")),
            "{text}"
        );
        ensure!(
            text.contains("q quit") && text.contains("l logs") && text.contains("s stop"),
            "{text}"
        );

        screen.keys(&["2"]).await?;
        screen
            .shows("the order of names", |text| {
                rows(text, &names) == [idle.clone(), counts.clone(), busy.clone()]
            })
            .await?;
        screen.keys(&["r"]).await?;
        screen
            .shows("the reverse", |text| {
                rows(text, &names) == [busy.clone(), counts.clone(), idle.clone()]
            })
            .await?;
        // What starts is there at once, without being asked for.
        let late = docker.run("nn-late", IDLE).await?.name;
        screen.shows("the late one", |text| text.contains(&late)).await?;

        screen.keys(&["/", "m", "m", "-", "Enter"]).await?;
        screen
            .shows("only what fits", |text| {
                rows(text, &names) == [counts.clone()] && text.contains("filter: mm-")
            })
            .await?;
        screen.keys(&["l"]).await?;
        let text = screen
            .shows("its log", |text| {
                text.contains(&format!("log of web-1/{counts}")) && text.contains("line ")
            })
            .await?;
        whole_lines(&text)?;
        screen.keys(&["Escape"]).await?;
        screen.shows("no log", |text| !text.contains("log of")).await?;

        // A shell in it has the terminal, and gives it back.
        screen.keys(&["e"]).await?;
        screen.shows("a prompt", |text| text.contains("/ #") && !text.contains("q quit")).await?;
        // The engine is told the size when the shell has begun.
        let sized = "until stty size; do :; done 2>&- >&-; echo in-$((40+2)) of $(stty size)";
        screen.keys(&[sized, "Enter"]).await?;
        screen.shows("what it says", |text| text.contains("in-42 of 24 80")).await?;
        screen.keys(&["exit", "Enter"]).await?;
        let text = screen
            .shows("the table again", |text| {
                text.contains(&format!("the shell in web-1/{counts} has ended"))
                    && text.contains("HOST")
            })
            .await?;
        whole_lines(&text)?;

        screen.keys(&["s"]).await?;
        screen
            .shows("the question", |text| text.contains(&format!("Stop web-1/{counts}? [y/N]")))
            .await?;
        screen.keys(&["n"]).await?;
        screen.shows("nothing stopped", |text| text.contains("nothing was stopped")).await?;
        ensure!(docker.inspect(&counts, "{{.State.Running}}").await? == "true");
        screen.keys(&["s", "y"]).await?;
        await_until("it to be stopped", LONG, async || {
            Ok((docker.inspect(&counts, "{{.State.Running}}").await? == "false").then_some(()))
        })
        .await?;
        screen.shows("it gone from those that run", |text| rows(text, &names).is_empty()).await?;
        screen.keys(&["a"]).await?;
        screen
            .shows("it among all", |text| {
                text.contains("exited") && rows(text, &names) == [counts.clone()]
            })
            .await?;

        screen.keys(&["q"]).await?;
        terminal_is_as_before(&screen).await
    });
}

/// The program has ended well and the terminal does again what terminals do.
async fn terminal_is_as_before(screen: &Screen) -> Result<()> {
    let text = screen.shows("its end", |text| text.contains("ended with ")).await?;
    ensure!(text.contains("ended with 0"), "{text}");
    let usual = |text: &str| ["icanon", "echo"].iter().all(|w| text.lines().any(|l| l == *w));
    screen.shows("a terminal with lines and an echo", usual).await?;
    screen.keys(&["t", "y", "p", "e", "d"]).await?;
    screen.shows("what is typed", |text| text.contains("typed")).await?;
    Ok(())
}

#[test]
fn top_shows_a_host_that_is_away_and_gives_the_terminal_back_on_every_way_out() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let name = docker.run("c", IDLE).await?.name;
        let dockctl = controller.dockctl().await?;
        let screen = start(world, &dockctl, &docker).await?;
        screen
            .shows("its container", |text| text.contains(&name) && text.contains("hosts 1 "))
            .await?;
        agent.process.kill9()?;
        controller.await_state("web-1", AgentState::Offline).await?;
        screen
            .shows("the host away", |text| {
                text.contains("hosts 1 (1 away)") && text.contains(&name)
            })
            .await?;
        agent.start_again().await?;
        screen
            .shows("the host back", |text| !text.contains("away") && text.contains(&name))
            .await?;
        screen.keys(&["C-c"]).await?;
        terminal_is_as_before(&screen).await?;
        drop(screen);

        let screen = start(world, &dockctl, &docker).await?;
        screen.shows("its container", |text| text.contains(&name)).await?;
        let pid: i32 = screen.pid("dockctl").await?.parse().context("a pid")?;
        let pid = rustix_pid(pid)?;
        rustix::process::kill_process(pid, dockctl_tests::Signal::TERM)?;
        terminal_is_as_before(&screen).await
    });
}

fn rustix_pid(pid: i32) -> Result<rustix::process::Pid> {
    rustix::process::Pid::from_raw(pid).context("no pid")
}
