//! `--filter` beside docker's own client, on one host and on the fleet; and the flags that lists share
//! with docker's.

use anyhow::{Result, ensure};
use dockctl_tests::{Dockctl, Docker, scenario};

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Runs the same words with both, and compares what they print in any order.
async fn same(docker: &Docker, dockctl: &Dockctl<'_>, words: &[&str]) -> Result<()> {
    let theirs = docker.raw(words).await?.done()?;
    let ours = dockctl.ok(&[words, &["--on", "web-1"]].concat()).await?;
    ensure!(lines(&theirs) == lines(&ours), "{words:?}\ndocker:\n{theirs}\ndockctl:\n{ours}");
    Ok(())
}

#[test]
fn lists_are_filtered_as_docker_filters_them() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let (key, value) = docker.label();
        let own = format!("label={key}={value}");
        let volume = world.own("v");
        let label = format!("{key}={value}");
        docker.cli(&["volume", "create", "--label", &label, &volume]).await?;
        let mount = format!("{volume}:/data");
        let up = docker.run_with(&["-v", &mount], "up", "exec sleep 100000").await?;
        let ended = docker.run("ended", "exit 3").await?;
        docker.cli(&["wait", &ended.name]).await?;

        let (since, before) = (format!("since={}", up.name), format!("before={}", ended.name));
        let (id, name) = (format!("id={}", up.id), format!("name={}", up.name));
        let volume_filter = format!("volume={volume}");
        let filters = [
            "status=exited",
            "status=running",
            "exited=3",
            "exited=0",
            "health=none",
            "ancestor=dockctl/busybox:test",
            &since,
            &before,
            &id,
            &name,
            &volume_filter,
            "network=none",
            "publish=80",
        ];
        for filter in filters {
            let words = ["ps", "-a", "-q", "--no-trunc", "--filter", &own, "--filter", filter];
            same(&docker, &dockctl, &words).await?;
        }
        // A filter by what has ended needs no -a, and --last and --latest none either.
        same(&docker, &dockctl, &["ps", "-q", "-f", &own, "-f", "status=exited"]).await?;
        same(&docker, &dockctl, &["ps", "-q", "-f", &own, "-n", "1"]).await?;
        same(&docker, &dockctl, &["ps", "-q", "-f", &own, "--latest"]).await?;
        let sized = ["ps", "-s", "-f", &own, "--format", "{{.Names}} {{.Size}}"];
        same(&docker, &dockctl, &sized).await?;
        let table = dockctl.ok(&["ps", "-s", "-f", &own, "--on", "web-1"]).await?;
        ensure!(table.contains(" SIZE\n") && table.contains("(virtual "), "{table}");

        let dangling = format!("dangling={}", true);
        for filter in ["dangling=false", "dangling=true", "driver=local", &own, "name=v"] {
            same(&docker, &dockctl, &["volume", "ls", "-q", "-f", &own, "-f", filter]).await?;
        }
        for filter in ["driver=bridge", "type=builtin", "name=host", "scope=local", &dangling] {
            same(
                &docker,
                &dockctl,
                &["network", "ls", "-q", "--no-trunc", "-f", filter, "-f", "type=builtin"],
            )
            .await
            .or(if filter == dangling {
                Ok(())
            } else {
                Err(anyhow::anyhow!("{filter}"))
            })?;
        }
        for words in [
            &["images", "-q", "--no-trunc", "-f", "reference=dockctl/busy*"][..],
            &["images", "-q", "-f", "dangling=false", "-f", "reference=dockctl/*:test"],
            &["images", "-q", "dockctl/busybox"],
            &["images", "--digests", "dockctl/busybox", "--format", "{{.Digest}} {{.ID}}"],
        ] {
            same(&docker, &dockctl, words).await?;
        }
        ensure!(!dockctl.ok(&["images", "-a", "-q", "--on", "web-1"]).await?.is_empty());

        let refused = dockctl.run(&["ps", "--on", "web-1", "-f", "foo=1"]).await?;
        ensure!(refused.code != 0 && refused.stderr.contains("foo"), "{refused:?}");
        docker.cli(&["rm", "-f", &up.name]).await?;
        docker.cli(&["volume", "rm", &volume]).await?;
        Ok(())
    });
}

#[test]
fn the_fleet_is_filtered_by_what_its_list_tells() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _one = world.agent(&controller, "web-1").await?;
        let _two = world.agent(&controller, "web-2").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let (key, value) = docker.label();
        let own = format!("label={key}={value}");
        let up = docker.run("up", "exec sleep 100000").await?;
        let ended = docker.run("ended", "exit 3").await?;
        docker.cli(&["wait", &ended.name]).await?;
        dockctl_tests::await_until("the fleet to know both", dockctl_tests::LONG, async || {
            let all = dockctl.ok(&["ps", "-aq", "-f", &own, "-f", "status=exited"]).await?;
            Ok((all.lines().count() == 2).then_some(()))
        })
        .await?;
        let name = format!("name=^{}$", up.name);
        for (filter, wanted) in
            [("status=running", &up.id), ("exited=3", &ended.id), (&name, &up.id)]
        {
            let words = ["ps", "-aq", "--no-trunc", "-f", &own, "-f", filter];
            let ours = dockctl.ok(&words).await?;
            ensure!(ours == format!("{wanted}\n{wanted}\n"), "{filter}: {ours}");
        }
        let newest = dockctl.ok(&["ps", "-f", &own, "-n", "1", "-q", "--no-trunc"]).await?;
        ensure!(newest.lines().count() == 1 && newest.trim_end() == ended.id, "{newest}");
        let agents = dockctl.ok(&["ps", "-f", &own, "--format", "{{.Agent}}/{{.Names}}"]).await?;
        let wanted = format!("web-1/{0}\nweb-2/{0}\n", up.name);
        ensure!(agents == wanted, "{agents}");
        let said = dockctl.run(&["ps", "-f", "status=bogus"]).await?.failed(2)?;
        ensure!(said.contains("Invalid filter 'status=bogus'"), "{said}");
        for words in [&["ps", "-f", "ancestor=x"][..], &["ps", "-s"], &["images", "-f", "since=x"]]
        {
            let said = dockctl.run(words).await?.failed(2)?;
            ensure!(said.contains("needs --on HOST"), "{said}");
        }
        let events = ["events", "--since", "10m", "--until", "0s", "-f", "event=die", "-f", &own];
        let events = dockctl.ok(&events).await?;
        ensure!(events.lines().count() == 2, "{events}");
        ensure!(events.lines().all(|line| line.contains(" container die ")), "{events}");
        Ok(())
    });
}

#[test]
fn options_of_volumes_and_networks_reach_their_drivers() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let (key, value) = docker.label();
        let label = format!("{key}={value}");
        let (volume, network) = (world.own("v"), world.own("n"));

        let options = ["-o", "type=tmpfs", "--opt", "device=tmpfs", "-o", "o=size=1m,uid=5"];
        let create = [&["volumes", "create", "--label", &label][..], &options, &[&volume]].concat();
        let made = dockctl.ok(&create).await?;
        ensure!(made == format!("{volume}\n"), "{made}");
        let told = docker.cli(&["volume", "inspect", "-f", "{{json .Options}}", &volume]).await?;
        ensure!(told == r#"{"device":"tmpfs","o":"size=1m,uid=5","type":"tmpfs"}"#, "{told}");
        // The global flag of the same name still says how results are printed.
        let json = dockctl.json(&["volumes", "inspect", &volume]).await?;
        ensure!(json[0]["Options"]["type"] == "tmpfs", "{json}");
        docker.cli(&["volume", "rm", &volume]).await?;

        let create = [
            "networks",
            "create",
            "--internal",
            "--label",
            &label,
            "-o",
            "com.docker.network.bridge.enable_icc=false",
            "--subnet",
            "10.213.77.0/24",
            "--aux-address",
            "router=10.213.77.5",
            "--ipam-opt",
            "a=b",
            &network,
        ];
        dockctl.ok(&create).await?;
        let format =
            "{{json .Options}} {{json .IPAM.Options}} {{(index .IPAM.Config 0).AuxAddress}}";
        let told = docker
            .cli(&["network", "inspect", "-f", "{{json .Options}}{{json .IPAM}}", &network])
            .await?;
        for wanted in [
            r#""com.docker.network.bridge.enable_icc":"false""#,
            r#""Options":{"a":"b"}"#,
            r#""AuxiliaryAddresses":{"router":"10.213.77.5"}"#,
        ] {
            ensure!(told.contains(wanted), "{format}: {told}");
        }
        let bad = [
            "networks",
            "create",
            "--subnet",
            "10.213.78.0/24",
            "--aux-address",
            "r=10.9.9.9",
            "x",
        ];
        let said = dockctl.run(&bad).await?.failed(2)?;
        ensure!(said.contains("no matching subnet"), "{said}");

        // A container's host is the agent; another one's name beside it is an error.
        let made = ["create", "--label", &label, dockctl_tests::IMAGE, "true"];
        let app = docker.cli(&made).await?;
        let reference = format!("web-1/{app}");
        let connect =
            ["networks", "connect", "--driver-opt", "k=v", "--alias", "a", &network, &reference];
        dockctl.ok(&connect).await?;
        let path = format!("{{{{json (index .NetworkSettings.Networks \"{network}\")}}}}");
        let told = docker.inspect(&app, &path).await?;
        ensure!(told.contains(r#""DriverOpts":{"k":"v"}"#) && told.contains(r#""a""#), "{told}");
        let said = dockctl
            .run(&["networks", "disconnect", "--on", "web-9", &network, &reference])
            .await?
            .failed(2)?;
        ensure!(said.contains("different hosts"), "{said}");
        dockctl.ok(&["networks", "disconnect", &network, &reference]).await?;
        docker.cli(&["network", "rm", &network]).await?;

        let kept =
            ["builder", "prune", "-f", "--keep-storage", "1000g", "--filter", "until=100000h"];
        let said = dockctl.ok(&kept).await?;
        ensure!(said == "Total reclaimed space: 0B\n", "{said}");
        Ok(())
    });
}

#[test]
fn info_needs_no_name_where_one_host_is_connected() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let ours = dockctl.run(&["info"]).await?;
        ensure!(ours.code == 0, "{ours:?}");
        let shown = String::from_utf8_lossy(&ours.stdout).into_owned();
        // Counts change while others work on this engine.
        let counts = [" Containers", "  Running", "  Paused", "  Stopped", " Images"];
        let lasting = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !counts.iter().any(|c| line.starts_with(c)));
            lines.map(str::to_owned).collect()
        };
        for words in [&["info", "--on", "web-1"][..], &["info", "web-1"]] {
            let same = dockctl.ok(words).await?;
            ensure!(lasting(&shown) == lasting(&same), "{shown}\n{same}");
        }
        let theirs = docker.raw(&["info"]).await?;
        let all = String::from_utf8_lossy(&theirs.stdout).into_owned();
        for line in lasting(&shown) {
            ensure!(all.lines().any(|l| l == line), "{line:?} is not in {all}");
        }
        for warning in theirs.stderr.lines().filter(|l| l.starts_with("WARNING: ")) {
            let known = dockctl.json(&["info"]).await?["Warnings"].to_string();
            ensure!(!known.contains(warning) || ours.stderr.contains(warning), "{ours:?}");
        }
        Ok(())
    });
}

#[test]
fn a_build_has_limits_and_leaves_its_id_in_a_file() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let (key, value) = docker.label();
        let dir = world.dir("context")?;
        let file = dir.join("Dockerfile");
        let own = format!("FROM {}\nLABEL {key}={value}\n", dockctl_tests::IMAGE);
        let run = "RUN ulimit -n; cat /sys/fs/cgroup/memory.max \
                   /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true\n";
        std::fs::write(&file, format!("{own}{run}"))?;
        let id = world.dir("id")?.join("id");
        let (context, id_file) = (dir.to_string_lossy(), id.to_string_lossy());
        let said = dockctl
            .ok(&[
                "build",
                "--no-cache",
                "-m",
                "64m",
                "--ulimit",
                "nofile=123:124",
                "--iidfile",
                &id_file,
                &context,
            ])
            .await?;
        ensure!(said.contains("\n123\n"), "{said}");
        ensure!(said.contains("\n67108864\n"), "{said}");
        let id = std::fs::read_to_string(&id)?;
        ensure!(id.starts_with("sha256:") && id.len() == 71, "{id:?}");
        docker.cli(&["rmi", "-f", &id]).await?;

        std::fs::write(&file, format!("{own}RUN --mount=type=cache,target=/c true\n"))?;
        let said = dockctl.run(&["build", &context]).await?;
        ensure!(said.code == 1, "{said:?}");
        ensure!(said.stderr.contains("BuildKit"), "{said:?}");
        ensure!(said.stderr.contains("dockctl docker web-1 -- build"), "{said:?}");
        Ok(())
    });
}
