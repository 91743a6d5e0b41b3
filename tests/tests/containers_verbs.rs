//! What is done with containers beyond starting and stopping them, through dockctl against the real
//! engine, beside what docker itself prints.

use anyhow::{Context, Result, ensure};
use dockctl_tests::{Dockctl, Docker, LONG, await_until, scenario};

const IDLE: &str = "exec sleep 100000";

async fn status(docker: &Docker, name: &str) -> Result<String> {
    docker.inspect(name, "{{.State.Status}}").await
}

#[test]
fn pausing_removing_and_renaming_many_at_once() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let (a, b) = (docker.run("a", IDLE).await?, docker.run("b", IDLE).await?);
        let refs = [format!("web-1/{}", a.name), format!("web-1/{}", b.name)];
        let [first, second] = [refs[0].as_str(), refs[1].as_str()];
        for (verb, state) in [("pause", "paused"), ("unpause", "running")] {
            let said = dockctl.ok(&[verb, first, second]).await?;
            ensure!(refs.iter().all(|r| said.contains(r.as_str())), "{said}");
            for name in [&a.name, &b.name] {
                ensure!(status(&docker, name).await? == state, "{name} after {verb}");
            }
        }
        let said = dockctl.run(&["unpause", first]).await?.failed(1)?;
        ensure!(said.contains(first) && said.contains("is not paused"), "{said}");

        let renamed = format!("{}-other", world.prefix());
        ensure!(dockctl.ok(&["rename", first, &renamed]).await?.is_empty());
        ensure!(docker.inspect(&a.id, "{{.Name}}").await? == format!("/{renamed}"));
        let said = dockctl.run(&["rename", second, &renamed]).await?.failed(1)?;
        ensure!(said.contains("is already in use"), "{said}");
        let said = dockctl.run(&["rename", second, "x/y"]).await?.failed(1)?;
        ensure!(said.contains("Invalid container name"), "{said}");

        // One is refused, the other one removed; the failure decides the exit code.
        let first = format!("web-1/{renamed}");
        docker.cli(&["stop", "-t", "0", &renamed]).await?;
        let ran = dockctl.run(&["rm", &first, second, "web-1/ghost"]).await?;
        ensure!(ran.code == 4, "{ran:?}");
        ensure!(String::from_utf8(ran.stdout)? == format!("{first}\n"));
        ensure!(ran.stderr.contains("You cannot remove a running container"), "{}", ran.stderr);
        ensure!(ran.stderr.contains("ghost"), "{}", ran.stderr);
        dockctl.ok(&["rm", "-f", "-v", second]).await?;
        let label = format!("label={}", docker.selector());
        ensure!(docker.cli(&["ps", "-aq", "--filter", &label]).await?.is_empty());
        Ok(())
    });
}

#[test]
fn a_wait_prints_each_exit_code_in_the_order_named() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let runs =
            docker.run("runs", "trap 'exit 5' TERM; while :; do usleep 100000; done").await?;
        let ended = docker.run("ended", "exit 3").await?;
        let [runs, ended] = [format!("web-1/{}", runs.name), format!("web-1/{}", ended.name)];
        ensure!(dockctl.ok(&["wait", &ended]).await? == "3\n");
        let mut waiting = dockctl.start(&["wait", &runs, &ended])?;
        dockctl.ok(&["stop", &runs]).await?;
        ensure!(waiting.exit_code().await? == 0);
        let codes = String::from_utf8(waiting.stdout()?)?;
        ensure!(codes == "5\n3\n", "{codes}");
        let said = dockctl.run(&["wait", "web-1/ghost"]).await?.failed(4)?;
        ensure!(said.contains("ghost"), "{said}");
        Ok(())
    });
}

#[test]
fn limits_change_while_a_container_runs() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker.run("c", IDLE).await?.name;
        let target = format!("web-1/{name}");
        let flags =
            ["--memory", "64m", "--memory-swap", "-1", "--cpus", "0.5", "--pids-limit", "9"];
        let all = [&["update"], &flags[..], &["--restart", "on-failure:2", &target]].concat();
        ensure!(dockctl.ok(&all).await? == format!("{target}\n"));
        let template = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} \
                        {{.HostConfig.PidsLimit}} {{with .HostConfig.RestartPolicy}}{{.Name}} \
                        {{.MaximumRetryCount}}{{end}}";
        let now = docker.inspect(&name, template).await?;
        ensure!(now == "67108864 -1 500000000 9 on-failure 2", "{now}");
        for (flags, says) in
            [(&[][..], "you must provide one or more flags"), (&["-m", "x"], "invalid size: 'x'")]
        {
            let said = dockctl.run(&[&["update"], flags, &[&*target]].concat()).await?.failed(2)?;
            ensure!(said.contains(says), "{said}");
        }
        Ok(())
    });
}

#[test]
fn processes_changes_and_ports_read_as_dockers() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let script =
            "echo x > /new; rm /etc/hostname.gone 2>/dev/null; mkdir /dir; exec sleep 100000";
        let name = docker.run("c", script).await?.name;
        let target = format!("web-1/{name}");
        await_until("the script to get there", LONG, async || {
            Ok(docker.cli(&["top", &name]).await?.contains("sleep 100000").then_some(()))
        })
        .await?;
        for options in [&[][..], &["-o", "pid,args"], &["aux"]] {
            let theirs = docker.cli(&[&["top", &name], options].concat()).await?;
            let ours = dockctl.ok(&[&["top", &target], options].concat()).await?;
            // The time a process has had may move between the two.
            let first = |text: &str| {
                let lines = text
                    .lines()
                    .map(|l| l.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
                lines.collect::<Vec<_>>()
            };
            ensure!(first(&ours) == first(&theirs), "{options:?}\n{ours}\n{theirs}");
        }
        let sorted = |text: String| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let theirs = sorted(docker.cli(&["diff", &name]).await?);
        ensure!(theirs.contains(&"A /new".to_owned()), "{theirs:?}");
        ensure!(sorted(dockctl.ok(&["diff", &target]).await?) == theirs);

        // It has no network, so that nothing is published.
        ensure!(dockctl.ok(&["port", &target]).await?.is_empty());
        let said = dockctl.run(&["port", &target, "80"]).await?.failed(1)?;
        ensure!(said.contains("no public port '80/tcp' published"), "{said}");
        let label = docker.selector();
        let published = docker
            .cli(&[
                "run",
                "-d",
                "--label",
                &label,
                "-p",
                "127.0.0.1::80",
                "-p",
                "127.0.0.1::53/udp",
                dockctl_tests::IMAGE,
                "sleep",
                "100000",
            ])
            .await?;
        let target = format!("web-1/{published}");
        for port in [&[][..], &["80"], &["53/udp"]] {
            let theirs = docker.cli(&[&["port", &published], port].concat()).await?;
            let ours = dockctl.ok(&[&["port", &target], port].concat()).await?;
            ensure!(sorted(ours.clone()) == sorted(theirs.clone()), "{port:?}: {ours} {theirs}");
        }
        dockctl.run(&["top"]).await?.failed(2)?;
        let said = dockctl.run(&["top", &target, "--nonsense"]).await?;
        ensure!(said.code == 1 && said.stderr.contains("web-1/"), "{said:?}");
        Ok(())
    });
}

#[test]
fn a_commit_makes_an_image_and_an_export_is_dockers_byte_for_byte() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker
            .run("c", "head -c 3000000 /dev/urandom > /data; echo done; sleep 100000")
            .await?
            .name;
        let target = format!("web-1/{name}");
        await_until("the data to be written", LONG, async || {
            Ok(docker.cli(&["logs", &name]).await?.contains("done").then_some(()))
        })
        .await?;
        let image = format!("{}/made:1", world.prefix());
        let id = dockctl
            .ok(&[
                "commit",
                "-a",
                "me",
                "-m",
                "why",
                "-c",
                "CMD /run",
                "--pause=false",
                &target,
                &image,
            ])
            .await?;
        let template = "{{.Id}} {{.Author}} {{.Comment}} {{.Config.Cmd}}";
        let known = docker.cli(&["image", "inspect", "-f", template, &image]).await?;
        ensure!(known == format!("{} me why [/bin/sh -c /run]", id.trim()), "{known}");
        docker.cli(&["rmi", &image]).await?;

        let folder = world.dir("export")?;
        let (ours, theirs) = (folder.join("ours.tar"), folder.join("theirs.tar"));
        let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("UTF-8");
        docker.cli(&["export", "-o", &path(&theirs)?, &name]).await?;
        dockctl.ok(&["export", "-o", &path(&ours)?, &target]).await?;
        let (ours, theirs) = (std::fs::read(ours)?, std::fs::read(theirs)?);
        ensure!(theirs.len() > 3_000_000 && ours == theirs, "the file differs");
        let piped = dockctl.run(&["export", &target]).await?;
        ensure!(piped.code == 0 && piped.stdout == theirs, "the pipe differs");
        let left = std::fs::read_dir(&folder)?.count();
        dockctl
            .run(&["export", "-o", &path(&folder.join("x"))?, "web-1/ghost"])
            .await?
            .failed(4)?;
        ensure!(std::fs::read_dir(&folder)?.count() == left, "a failed export left a file");
        Ok(())
    });
}

#[test]
fn a_prune_removes_the_stopped_ones_that_fit() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let (runs, ended) = (docker.run("runs", IDLE).await?, docker.run("ended", "true").await?);
        let keep = docker.run_with(&["--label", "keep"], "keep", "true").await?;
        docker.cli(&["wait", &ended.name, &keep.name]).await?;
        let mine = format!("label={}", docker.selector());
        let prune =
            ["container", "prune", "--on", "web-1", "--filter", &mine, "--filter", "label!=keep"];
        let said = dockctl.run(&prune).await?.failed(2)?;
        ensure!(said.contains("cannot be undone"), "{said}");
        let said = dockctl.ok(&[&prune[..], &["-f"]].concat()).await?;
        let wanted = format!("Deleted Containers:\n{}\n\nTotal reclaimed space: 0B\n", ended.id);
        ensure!(said == wanted, "{said}");
        ensure!(status(&docker, &runs.name).await? == "running");
        ensure!(status(&docker, &keep.name).await? == "exited");
        let said =
            dockctl.run(&["container", "prune", "-f", "--filter", "until"]).await?.failed(2)?;
        ensure!(said.contains("bad format of filter (expected name=value)"), "{said}");
        Ok(())
    });
}

#[test]
fn hostile_names_and_labels_do_not_reach_the_output_raw() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let escape = "\u{1b}[31mred\u{1b}]0;title\u{7}";
        let script = format!("mkdir '/tmp/{escape}'; : '{escape}'; echo ready; sleep 100000; true");
        let label = format!("evil={escape}");
        let name = docker.run_with(&["--label", &label], "c", &script).await?.name;
        let target = format!("web-1/{name}");
        await_until("the script to get there", LONG, async || {
            Ok(docker.cli(&["logs", &name]).await?.contains("ready").then_some(()))
        })
        .await?;
        let shown = dockctl.ok(&["diff", &target]).await?;
        ensure!(shown.contains("A /tmp/red"), "{shown:?}");
        for arguments in [
            &["diff", &*target][..],
            &["top", &target],
            &["ps", "--on", "web-1"],
            &["port", &target, escape],
            &["rename", &target, escape],
            &["update", "--memory", escape, &target],
            &["create", "--on", "web-1", "-p", escape, dockctl_tests::IMAGE],
        ] {
            let ran = dockctl.run(arguments).await?;
            let shown = String::from_utf8(ran.stdout)? + &ran.stderr;
            ensure!(!shown.contains(['\u{1b}', '\u{7}']), "{arguments:?}: {shown:?}");
        }
        Ok(())
    });
}

/// "344KiB" or "64MiB" as bytes.
fn bytes(text: &str) -> Result<f64> {
    let end = text.find(|c: char| c.is_alphabetic()).context(text.to_owned())?;
    let power = ["B", "KiB", "MiB", "GiB"].iter().position(|unit| *unit == &text[end..]);
    let power = i32::try_from(power.context(text.to_owned())?)?;
    Ok(text[..end].parse::<f64>()? * 1024_f64.powi(power))
}

async fn usage(dockctl: &Dockctl<'_>, docker: &Docker, name: &str) -> Result<()> {
    let theirs = docker
        .cli(&[
            "stats",
            "--no-stream",
            "--format",
            "{{.MemUsage}}|{{.PIDs}}|{{.BlockIO}}|{{.NetIO}}",
            name,
        ])
        .await?;
    let told = dockctl.ok(&["stats", "--no-stream", &format!("web-1/{name}")]).await?;
    let row = told.lines().nth(1).context("no row")?;
    let [memory, pids, block, net] = theirs.split('|').collect::<Vec<_>>()[..] else {
        anyhow::bail!("{theirs}")
    };
    let ours: Vec<&str> = row.split("   ").map(str::trim).filter(|c| !c.is_empty()).collect();
    let (used, limit) = ours[4].split_once(" / ").context("no memory")?;
    let (their_used, their_limit) = memory.split_once(" / ").context("no memory")?;
    ensure!(limit == their_limit, "{limit} is not docker's limit {their_limit}");
    let (used, their_used) = (bytes(used)?, bytes(their_used)?);
    ensure!((used - their_used).abs() <= 128.0 * 1024.0, "{row}\n{theirs}");
    ensure!(ours[8] == pids && ours[7] == block && ours[6] == net, "{row}\n{theirs}");
    Ok(())
}

#[test]
fn stats_are_the_numbers_that_docker_stats_prints() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let limited = ["--memory", "64m"];
        let idle = docker.run_with(&limited, "idle", IDLE).await?;
        // Files that were read stay in the page cache, which does not count.
        let script =
            "head -c 5000000 /dev/zero > /x; cat /x > /dev/null; echo ready; sleep 100000; true";
        let cached = docker.run("cached", script).await?;
        await_until("the files to be read", LONG, async || {
            Ok(docker.cli(&["logs", &cached.name]).await?.contains("ready").then_some(()))
        })
        .await?;
        // A container that has just begun uses more or less between one look and the other.
        for name in [&idle.name, &cached.name] {
            await_until("the same numbers", LONG, async || {
                usage(&dockctl, &docker, name).await.map(Some)
            })
            .await?;
        }
        Ok(())
    });
}
