//! Many at once: logs of a selection, actions on it with a question and a summary, and lists of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::AgentState;
use dockctl_tests::{
    Dockctl, Docker, DockerProxy, LONG, TcpProxy, await_until, consecutive_lines, counting_script,
    scenario,
};

const IDLE: &str = "exec sleep 100000";

/// Waits until the fleet's list has so many containers of a selector.
async fn listed(dockctl: &Dockctl<'_>, selector: &str, count: usize) -> Result<()> {
    await_until(&format!("{count} containers in the fleet's list"), LONG, async || {
        let ids = dockctl.ok(&["ps", "-a", "-q", "-l", selector]).await?;
        Ok((ids.lines().count() == count).then_some(()))
    })
    .await
}

/// The lines of each host/container without their prefix. All prefixes must be as wide.
fn by_container(text: &str) -> Result<BTreeMap<String, String>> {
    let mut logs: BTreeMap<String, String> = BTreeMap::new();
    let mut width = 0;
    for line in text.lines() {
        let (who, line_text) = line.split_once(" | ").with_context(|| format!("torn: {line:?}"))?;
        ensure!(who.len() >= width, "not aligned: {line:?}");
        width = who.len();
        let log = logs.entry(who.trim_end().to_owned()).or_default();
        log.push_str(line_text);
        log.push('\n');
    }
    Ok(logs)
}

#[test]
fn the_logs_of_a_selection_come_whole_each_line_with_its_host_and_container() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _web_1 = world.agent(&controller, "web-1").await?;
        let _web_2 = world.agent(&controller, "web-2").await?;
        let _db_1 = world.agent(&controller, "db-1").await?;
        let docker = world.docker();
        let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo \"line $i\"; echo \"line $i\" >&2; done";
        let mut names = Vec::new();
        for name in ["a", "bb", "ccc"] {
            names.push(docker.run(name, script).await?.name);
        }
        for name in &names {
            docker.cli(&["wait", name]).await?;
        }
        let dockctl = controller.dockctl().await?;
        let mine = docker.selector();
        listed(&dockctl, &mine, 9).await?;

        let output = dockctl.run(&["logs", "-a", "-l", &mine, "--on", "web-*"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let wanted: Vec<String> = ["web-1", "web-2"]
            .iter()
            .flat_map(|host| names.iter().map(move |name| format!("{host}/{name}")))
            .collect();
        for text in [String::from_utf8(output.stdout)?, output.stderr] {
            ensure!(!text.contains('\x1b'), "colours though it is piped");
            let logs = by_container(&text)?;
            ensure!(logs.keys().cloned().collect::<Vec<_>>() == wanted, "{:?}", logs.keys());
            for (who, log) in logs {
                ensure!(consecutive_lines(log.as_bytes())? == 3000, "{who} is not whole");
            }
        }

        // Globs and several references do the same; stopped ones are shown when they are named.
        let (one, glob) = (format!("web-1/{}", names[0]), format!("db-*/{}", names[1]));
        let both = by_container(&dockctl.ok(&["logs", &one, &glob]).await?)?;
        ensure!(both.keys().eq([&format!("db-1/{}", names[1]), &one]), "{both:?}");
        ensure!(both.values().all(|log| log.ends_with("\nline 3000\n")), "{both:?}");
        let two = format!("web-2/{}", names[2]);
        let both = by_container(&dockctl.ok(&["logs", &one, &two]).await?)?;
        ensure!(both.keys().eq([&one, &two]), "{both:?}");

        // What fits nothing is a mistake, and not an empty log.
        for wrong in [
            &["logs", "web-*/ghost"][..],
            &["logs", "-l", "no.such=label"],
            &["logs", "-l", &mine, "--on", "zz-*"],
        ] {
            dockctl.run(wrong).await?.failed(4)?;
        }
        Ok(())
    });
}

#[test]
fn a_followed_selection_takes_in_what_starts_and_goes_on_through_cut_links() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let (proxy, _agent) = world.agent_behind_proxy(&controller, "web-1").await?;
        let docker = world.docker();
        let first = docker.run("first", counting_script()).await?.name;
        let dockctl = controller.dockctl().await?;
        let mine = docker.selector();
        listed(&dockctl, &mine, 1).await?;
        let follow = dockctl.start(&["logs", "-f", "-l", &mine])?;
        let count = async |name: &str, more: usize| -> Result<usize> {
            let lines = || -> Result<String> {
                let text = String::from_utf8(follow.stdout()?)?;
                let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
                Ok(by_container(whole)?.remove(&format!("web-1/{name}")).unwrap_or_default())
            };
            let before = lines()?.lines().count();
            await_until(&format!("more lines of {name}"), LONG, async || {
                let text = lines()?;
                Ok((text.lines().count() >= before + more).then_some(text))
            })
            .await
            .map(|text| text.lines().count())
        };
        count(&first, 50).await?;
        // One that starts later joins from its beginning.
        let second = docker.run("second", counting_script()).await?.name;
        count(&second, 50).await?;
        for _ in 0..2 {
            proxy.cut();
            count(&first, 100).await?;
            count(&second, 100).await?;
        }
        // One that ends leaves the others alone, and joins again where it was.
        docker.cli(&["kill", &first]).await?;
        count(&second, 100).await?;
        docker.cli(&["start", &first]).await?;
        count(&first, 50).await?;
        let ours = String::from_utf8(follow.stdout()?)?;
        let whole = ours.rfind('\n').map_or("", |end| &ours[..=end]);
        for (name, log) in by_container(whole)? {
            let name = name.trim_start_matches("web-1/");
            let theirs = docker.raw(&["logs", name]).await?.stdout;
            ensure!(theirs.starts_with(log.as_bytes()), "{name}: lines are lost or doubled");
        }
        Ok(())
    });
}

#[test]
fn an_action_on_a_selection_asks_acts_and_sums_up_with_the_failures_at_the_end() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _web_1 = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let (a, b) = (docker.run("a", IDLE).await?.name, docker.run("b", IDLE).await?.name);
        let dockctl = controller.dockctl().await?;
        let mine = docker.selector();
        listed(&dockctl, &mine, 2).await?;
        let states = async || docker.cli(&["inspect", "-f", "{{.State.Running}}", &a, &b]).await;

        // Nobody is there to be asked.
        let said = dockctl.run(&["stop", "-t", "0", "-l", &mine]).await?.failed(2)?;
        ensure!(said.contains("would stop 2 containers") && said.contains("--yes"), "{said}");
        // Somebody is, and says no; then yes.
        let stop = ["stop", "-t", "0", "--on", "web-*", "-l", &mine];
        let asked = dockctl.on_a_terminal(&stop, "n\n", true).await?;
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        ensure!(asked.code == 1 && text.contains("This will stop 2 containers"), "{text}");
        ensure!(text.contains(&format!("web-1: {a}, {b}")), "{text}");
        ensure!(states().await? == "true\ntrue", "it was stopped all the same");
        let asked = dockctl.on_a_terminal(&stop, "y\n", true).await?;
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        ensure!(asked.code == 0 && text.contains("stopped 2 of 2"), "{text}");
        ensure!(states().await? == "false\nfalse");

        await_stopped(&dockctl, &mine).await?;
        let again = dockctl.run(&["stop", "-y", "-l", &mine]).await?;
        ensure!(again.code == 0 && again.stderr.contains("nothing to stop: 2 fit"), "{again:?}");
        let glob = format!("web-1/{}-*", world.prefix());
        let started = dockctl.run(&["start", "--yes", "--parallel", "1", &glob]).await?;
        ensure!(started.stderr.contains("started 2 of 2"), "{}", started.stderr);
        let mut done: Vec<_> = std::str::from_utf8(&started.stdout)?.lines().collect();
        done.sort_unstable();
        ensure!(done == [format!("web-1/{a}"), format!("web-1/{b}")], "{done:?}");

        // A host that is away fails, the others do not.
        let mut web_2 = world.agent(&controller, "web-2").await?;
        listed(&dockctl, &mine, 4).await?;
        web_2.process.kill9()?;
        controller.await_state("web-2", AgentState::Offline).await?;
        let output = dockctl.run(&["restart", "-t", "0", "-y", "-l", &mine]).await?;
        ensure!(output.code == 1, "{output:?}");
        ensure!(output.stdout.split(|b| *b == b'\n').count() == 3, "{output:?}");
        let summary = output.stderr.find("restarted 2, failed 2 of 4").context("no summary")?;
        for name in [&a, &b] {
            let failure = format!("dockctl: web-2/{name}: web-2 is offline");
            let at = output.stderr.find(&failure).with_context(|| output.stderr.clone())?;
            ensure!(at > summary, "{}", output.stderr);
        }
        // The same for scripts.
        let output = dockctl.run(&["kill", "-y", "-o", "json", "-l", &mine]).await?;
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let done = told.as_array().context("an array")?.iter().filter(|t| t["done"] == true);
        ensure!(output.code == 1 && done.count() == 2, "{told}");
        Ok(())
    });
}

async fn await_stopped(dockctl: &Dockctl<'_>, selector: &str) -> Result<()> {
    await_until("none to run in the fleet's list", LONG, async || {
        Ok(dockctl.ok(&["ps", "-q", "-l", selector]).await?.is_empty().then_some(()))
    })
    .await
}

#[test]
fn lists_samples_and_events_can_be_of_some_hosts_and_some_containers() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _web_1 = world.agent(&controller, "web-1").await?;
        let _web_2 = world.agent(&controller, "web-2").await?;
        let _db_1 = world.agent(&controller, "db-1").await?;
        let docker = world.docker();
        let chosen = docker.run_with(&["--label", "pick=me"], "chosen", IDLE).await?;
        let other = docker.run("other", IDLE).await?;
        let dockctl = controller.dockctl().await?;
        listed(&dockctl, &docker.selector(), 6).await?;
        let hosts = |text: &str, name: &str| {
            let rows = text.lines().filter(|line| line.contains(name));
            let mut hosts: Vec<_> =
                rows.filter_map(|row| row.split_whitespace().next().map(str::to_owned)).collect();
            hosts.sort_unstable();
            hosts.dedup();
            hosts
        };
        let pick = format!("pick=me,{}", docker.selector());
        let ps = dockctl.ok(&["ps", "--on", "web-*,db-1", "-l", &pick]).await?;
        ensure!(
            hosts(&ps, &chosen.name) == ["db-1", "web-1", "web-2"] && !ps.contains(&other.name),
            "{ps}"
        );
        let ps = dockctl.ok(&["ps", "--on", "*-1"]).await?;
        ensure!(hosts(&ps, &other.name) == ["db-1", "web-1"], "{ps}");
        dockctl.run(&["ps", "--on", "web-1,web-7"]).await?.failed(4)?;
        let images = dockctl.ok(&["images", "--on", "web-*"]).await?;
        ensure!(hosts(&images, "dockctl/busybox") == ["web-1", "web-2"], "{images}");

        let stats = dockctl.ok(&["stats", "--no-stream", "--on", "web-*", "-l", "pick=me"]).await?;
        ensure!(
            hosts(&stats, &chosen.name) == ["web-1", "web-2"] && !stats.contains(&other.name),
            "{stats}"
        );
        let glob = format!("web-2/{}", other.name.replace("other", "oth*"));
        let stats = dockctl.ok(&["stats", "--no-stream", &glob]).await?;
        ensure!(
            hosts(&stats, &other.name) == ["web-2"] && !stats.contains(&chosen.name),
            "{stats}"
        );

        // One that starts later joins in, and piped lines have a header.
        let running = dockctl.start(&["stats", "--on", "db-*", "-l", "pick=me"])?;
        running.wait_for_lines(2).await?;
        let late = docker.run_with(&["--label", "pick=me"], "late", IDLE).await?;
        await_until("samples of the late one", LONG, async || {
            let text = String::from_utf8(running.stdout()?)?;
            Ok((hosts(&text, &late.name) == ["db-1"]).then_some(text))
        })
        .await
        .and_then(|text| {
            ensure!(text.starts_with("HOST ") && text.matches("CPU %").count() == 1, "{text}");
            ensure!(!text.contains(&other.name) && !text.contains("web-"), "{text}");
            Ok(())
        })?;

        let events =
            dockctl.start(&["events", "--on", "web-*", "-l", "pick=me", "--since", "10m"])?;
        docker.cli(&["kill", &other.name]).await?;
        docker.cli(&["kill", &chosen.name]).await?;
        await_until("both hosts' events", LONG, async || {
            let text = String::from_utf8(events.stdout()?)?;
            let died = |host: &str| {
                let id = &chosen.id[..12];
                text.lines().any(|l| l.contains(&format!(" {host} container die {id} (")))
            };
            Ok((died("web-1") && died("web-2")).then_some(text))
        })
        .await
        .and_then(|text| {
            ensure!(!text.contains(&other.name) && !text.contains(" db-1 "), "{text}");
            Ok(())
        })
    });
}

#[test]
fn a_lists_age_is_right_though_the_inventory_is_older() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let container = docker.run("c", IDLE).await?;
        listed(&dockctl, &docker.selector(), 1).await?;
        let status = async || -> Result<String> {
            let all = dockctl.ok(&["ps", "-a", "-l", &docker.selector()]).await?;
            let row = all.lines().find(|l| l.contains(&container.name)).context("not listed")?;
            Ok(row.to_owned())
        };
        // The inventory is compared anew after a minute only; the age is told by then.
        await_until("an age of some seconds", LONG, async || {
            let row = status().await?;
            let seconds =
                row.split("Up ").nth(1).and_then(|t| t.split(' ').next()?.parse::<u32>().ok());
            Ok(seconds.is_some_and(|s| s >= 4).then_some(()))
        })
        .await?;
        docker.cli(&["kill", &container.name]).await?;
        await_until("the age of its end", LONG, async || {
            let row = status().await?;
            let seconds = row.split("Exited (137) ").nth(1);
            let seconds = seconds.and_then(|t| t.split(' ').next()?.parse::<u32>().ok());
            Ok(seconds.is_some_and(|s| s >= 4).then_some(()))
        })
        .await
    });
}

#[test]
fn a_short_beginning_of_an_id_is_none_for_every_verb() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let container = world.docker().run("c", IDLE).await?;
        let dockctl = controller.dockctl().await?;
        let short = format!("web-1/{}", &container.id[..3]);
        for verb in ["logs", "stop", "inspect", "kill"] {
            let said = dockctl.run(&[verb, &short]).await?.stderr;
            ensure!(said.contains("at least 4 digits"), "{verb}: {said}");
        }
        let enough = format!("web-1/{}", &container.id[..12]);
        dockctl.ok(&["stop", "-t", "0", &enough]).await?;
        Ok(())
    });
}

/// What a hostile container says of itself and prints.
async fn hostile(docker: &Docker) -> Result<String> {
    let script = concat!(
        "printf '\\033[2J\\033]0;title\\007\\302\\2332J\\377\\376 bad\\n'; ",
        "printf '\\033]52;c;AAAA\\007' >&2; echo err >&2; ",
        "head -c 1000000 /dev/zero | tr '\\0' x; echo; printf '\\001\\000\\000\\000\\000\\000\\000\\010 framed\\n'; ",
        "exec sleep 100000 # \x1b[31m\u{9b}2J"
    );
    let label = "evil=\x1b[2J\x1b]0;x\x07\u{202e}";
    Ok(docker.run_with(&["--label", label, "--hostname", "h"], "hostile", script).await?.name)
}

#[test]
fn what_containers_say_never_steers_a_terminal() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = hostile(&docker).await?;
        let mine = docker.selector();
        listed(&dockctl, &mine, 1).await?;
        let one = format!("web-1/{name}");
        await_until("its whole log", LONG, async || {
            let log = dockctl.run(&["logs", &one]).await?.stdout;
            Ok(String::from_utf8_lossy(&log).contains("framed").then_some(()))
        })
        .await?;
        for arguments in [
            &["ps", "--no-trunc"][..],
            &["ps", "-o", "json"],
            &["inspect", &one],
            &["logs", &one],
            &["logs", "-l", &mine],
            &["logs", "-l", &mine, "-o", "json"],
            &["events", "--since", "1h", "--until", "0s"],
            &["stats", "--no-stream"],
        ] {
            let output =
                dockctl.on_a_terminal(&[arguments, &["--no-color"]].concat(), "", false).await?;
            ensure!(output.code == 0, "{output:?}");
            let text =
                String::from_utf8(output.stdout).with_context(|| format!("{arguments:?}"))?;
            let bad = text.chars().find(|c| c.is_control() && !matches!(c, '\r' | '\n' | '\t'));
            ensure!(bad.is_none(), "{arguments:?} sends {bad:?} to the terminal");
        }
        // The long line is there, and is one line.
        let logs = dockctl.on_a_terminal(&["logs", &one], "", false).await?;
        ensure!(logs.stdout.split(|b| *b == b'\n').any(|line| line.len() >= 1_000_000));
        Ok(())
    });
}

#[test]
fn statistics_of_many_hosts_do_not_wait_for_one_that_never_answers() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _web_1 = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let proxy = DockerProxy::start(docker.host()).await?;
        let engine = TcpProxy::start(proxy.address()).await?;
        let engine_url = format!("tcp://{}", engine.address());
        let _web_2 = world.agent_at(&controller, "web-2", &engine_url).await?;
        let name = docker.run("c", IDLE).await?.name;
        let dockctl = controller.dockctl().await?;
        let mine = docker.selector();
        listed(&dockctl, &mine, 2).await?;
        let refs = ["web-1", "web-2"].map(|host| format!("{host}/{name}"));

        engine.stall();
        for which in [&[][..], &["-l", &mine], &["--on", "web-*"], &[&refs[0], &refs[1]]] {
            let output = dockctl.run(&[&["stats", "--no-stream"], which].concat()).await?;
            let shown = String::from_utf8_lossy(&output.stdout);
            let rows: Vec<&str> = shown.lines().filter(|line| line.contains(&name)).collect();
            ensure!(rows.len() == 1 && rows[0].starts_with("web-1 "), "{which:?}: {output:?}");
            ensure!(output.code == 1, "{which:?}: {output:?}");
            let missing =
                output.stderr.lines().filter(|line| line.contains("web-2: no statistics"));
            ensure!(missing.count() == 1, "{which:?}: {output:?}");
            ensure!(!output.stderr.contains("web-1: "), "{which:?}: {output:?}");
        }
        Ok(())
    });
}

#[test]
fn lists_keep_to_the_width_of_the_terminal_and_are_whole_when_piped() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        docker.run(&"long".repeat(20), IDLE).await?;
        let dockctl = controller.dockctl().await?;
        listed(&dockctl, &docker.selector(), 1).await?;
        agent.process.kill9()?;
        controller.await_state("web-1", AgentState::Offline).await?;
        for arguments in [&["ps", "--no-color"][..], &["agents", "ls", "--no-color"]] {
            let output = dockctl.on_a_terminal(arguments, "", false).await?;
            let text = String::from_utf8(output.stdout)?;
            ensure!(text.contains('…'), "{text}");
            for line in text.lines() {
                ensure!(line.chars().count() <= 80, "{arguments:?} wraps: {line}");
            }
            ensure!(!dockctl.ok(arguments).await?.contains("long…"), "{arguments:?} when piped");
        }
        ensure!(dockctl.ok(&["ps"]).await?.contains(&"long".repeat(20)));
        Ok(())
    });
}
