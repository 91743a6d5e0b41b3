//! `--format`: what docker's own client prints for a template, dockctl prints too.

use anyhow::{Result, ensure};
use dockctl_tests::{Dockctl, Docker, scenario};

/// Runs the same words with both, and compares what they print, line by line in any order.
async fn same(docker: &Docker, dockctl: &Dockctl<'_>, words: &[&str]) -> Result<()> {
    let theirs = docker.raw(words).await?.done()?;
    let ours = dockctl.ok(&[words, &["--on", "web-1"]].concat()).await?;
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    ensure!(sorted(&theirs) == sorted(&ours), "{words:?}\ndocker:\n{theirs}\ndockctl:\n{ours}");
    Ok(())
}

#[test]
fn a_template_prints_what_docker_prints() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let volume = world.own("v");
        let (key, value) = docker.label();
        let label = format!("{key}={value}");
        let filter = format!("label={label}");
        docker.cli(&["volume", "create", "--label", &label, &volume]).await?;
        let mount = format!("{volume}:/data");
        let up = docker
            .run_with(&["-v", &mount, "--label", "com.x.my-app=a b"], "up", "exec sleep 100000")
            .await?;
        let ended = docker.run("ended", "exit 3").await?;
        docker.cli(&["wait", &ended.name]).await?;
        let network = world.own("n");
        let create = ["network", "create", "--internal", "--label", &label, &network];
        docker.cli(&create).await?;

        for format in [
            "{{.ID}} {{.Names}} {{.Image}} {{.State}}",
            r"{{.Names}}\t{{.Command}}\n{{.CreatedAt}}",
            "{{json .Names}} {{json .Ports}}",
            r#"{{.Label "com.x.my-app"}}|{{.Networks}}|{{.LocalVolumes}}"#,
            "{{.Labels}}",
            "{{upper .Names}} {{len .ID}} {{title .State}} {{truncate .Image 4}}",
            r#"{{if eq .State "running"}}yes{{else}}no{{end}}{{/* nothing */}}"#,
            r#"{{printf "%-30s|%q" .Names .State}} {{- .Size -}} x"#,
            r#"{{range $i, $p := split .Image "/"}}{{$i}}={{$p}} {{end}}"#,
            r#"{{join (split .Image "/") "+"}} {{index (split .Image "/") 0}} {{println .ID}}"#,
            r"table {{.Names}}\t{{.State}}\t{{.Image}}",
            r#"table {{.ID}}\t{{upper .Names}}\t{{.Label "com.x.my-app"}}"#,
            "{{.Status}}",
        ] {
            // The status's age may be another second's.
            if format != "{{.Status}}" {
                same(&docker, &dockctl, &["ps", "-a", "--filter", &filter, "--format", format])
                    .await?;
            }
            same(
                &docker,
                &dockctl,
                &["ps", "-a", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.Mounts}}"],
            )
            .await?;
        }
        for format in [
            "{{.ID}} {{.Repository}}:{{.Tag}} {{.Digest}} {{.Size}}",
            "{{.CreatedAt}} {{.VirtualSize}}",
            r"table {{.Repository}}\t{{.ID}}\t{{.Tag}}",
            "json",
        ] {
            let words = ["images", "--format", format, "dockctl/busybox"];
            match format {
                "json" => {
                    let ours = dockctl.ok(&words).await?;
                    ensure!(ours.contains(r#""Repository":"dockctl/busybox""#), "{ours}");
                }
                _ => same(&docker, &dockctl, &words).await?,
            }
        }
        for format in ["{{.Name}} {{.Driver}} {{.Scope}} {{.Mountpoint}} {{.Labels}}", "{{.Size}}"]
        {
            let words = ["volume", "ls", "--filter", &filter, "--format", format];
            same(&docker, &dockctl, &words).await?;
        }
        for format in [
            "{{.ID}} {{.Name}} {{.Driver}} {{.IPv6}} {{.Internal}} {{.Labels}}",
            "{{.CreatedAt}}",
            r"table {{.Name}}\t{{.Scope}}",
        ] {
            let words = ["network", "ls", "--filter", &filter, "--format", format];
            same(&docker, &dockctl, &words).await?;
        }
        for words in [
            &["history", "--format", "{{.ID}} {{.CreatedAt}} {{.Size}} {{.Comment}}"][..],
            &["history", "--human=false", "--no-trunc", "--format", "{{.ID}} {{.Size}}"],
        ] {
            same(&docker, &dockctl, &[words, &["dockctl/busybox:test"]].concat()).await?;
        }
        let df = ["system", "df", "--format", "{{.Type}}"];
        same(&docker, &dockctl, &df).await?;
        same(&docker, &dockctl, &["info", "-f", "{{.Name}} {{.NCPU}} {{json .ID}}"]).await?;
        same(&docker, &dockctl, &["version", "-f", "{{.Server.Version}}"]).await?;
        let stats = "{{.Container}} {{.ID}} {{.PIDs}} {{.NetIO}} {{.Name}}";
        let words = ["stats", "--no-stream", "--format", stats, &ended.name];
        let theirs = docker.cli(&words).await?;
        let ours = dockctl.ok(&words).await?;
        ensure!(theirs == ours.trim_end(), "{theirs} / {ours}");
        ensure!(ours.contains(" 0 0B / 0B "), "a stopped one has zeros: {ours}");

        let inspect = [
            "{{.Name}} {{.Id}} {{.State.Running}} {{.State.ExitCode}}",
            "{{.ID}} {{.Config.Labels}} {{.Config.Cmd}}",
            "{{json .Config.Labels}} {{json .Mounts}} {{len .Mounts}}",
            r#"{{index .Config.Labels "com.x.my-app"}}|{{index .Config.Labels "none"}}"#,
            r#"{{range .Mounts}}{{.Name}}:{{.Destination}} {{end}}"#,
            r#"{{(index .Mounts 0).Destination}} {{with index .Mounts 0}}{{.Type}}{{end}}"#,
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "{{range $n, $c := .NetworkSettings.Networks}}{{$n}} {{$c.NetworkID}}{{end}}",
            "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}",
            r#"{{join .Config.Cmd ","}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}"#,
            "{{.HostConfig.PortBindings}} {{.HostConfig.Binds}} {{.HostConfig.PidsLimit}}",
            r#"{{$n := .Name}}{{range .Config.Env}}{{$n}} {{.}}{{println}}{{end}}"#,
        ];
        for format in inspect {
            let words = ["inspect", "--format", format, &up.name];
            let theirs = docker.raw(&words).await?.done();
            let ours = dockctl.ok(&words).await;
            match (theirs, ours) {
                (Ok(theirs), Ok(ours)) => {
                    ensure!(theirs == ours, "{format}\ndocker:\n{theirs}\ndockctl:\n{ours}");
                }
                (theirs, ours) => anyhow::bail!("{format}: {theirs:?} / {ours:?}"),
            }
        }
        for (noun, name, format) in [
            ("volume", &volume, "{{.Name}} {{.Labels}} {{.Scope}}"),
            ("network", &network, "{{.Name}} {{.Id}} {{json .Labels}}"),
            ("image", &"dockctl/busybox:test".to_owned(), "{{.Id}} {{.RepoTags}} {{.Size}}"),
        ] {
            same(&docker, &dockctl, &[noun, "inspect", "--format", format, name]).await?;
        }
        docker.cli(&["network", "rm", &network]).await?;
        docker.cli(&["rm", "-f", &up.name]).await?;
        docker.cli(&["volume", "rm", &volume]).await?;
        Ok(())
    });
}

#[test]
fn json_has_dockers_fields_and_the_agent() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let (key, value) = docker.label();
        let filter = format!("label={key}={value}");
        docker.run("up", "exec sleep 100000").await?;

        let words = ["ps", "--filter", &filter, "--format", "json"];
        let mut theirs: serde_json::Value = serde_json::from_str(&docker.cli(&words).await?)?;
        let on = [&words[..], &["--on", "web-1"]].concat();
        let mut ours: serde_json::Value = serde_json::from_str(&dockctl.ok(&on).await?)?;
        ensure!(ours["Agent"] == "web-1", "{ours}");
        for value in [&mut theirs, &mut ours] {
            // Ages and sizes of an instant.
            for field in ["RunningFor", "Status", "Size", "Agent"] {
                if let Some(value) = value.as_object_mut() {
                    value.remove(field);
                }
            }
        }
        ensure!(theirs == ours, "{theirs} / {ours}");

        // docker cuts what is written as a span to whole seconds.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let until = (now + 1).to_string();
        let events = ["events", "--since", "10m", "--until", &until, "--filter", &filter];
        let words = [&events[..], &["--format", "json"]].concat();
        let theirs = docker.cli(&words).await?;
        let ours = dockctl.ok(&[&words[..], &["--on", "web-1"]].concat()).await?;
        let read = |text: &str| -> Result<Vec<serde_json::Value>> {
            let line = |line: &str| -> Result<serde_json::Value> {
                let mut value: serde_json::Value = serde_json::from_str(line)?;
                if let Some(value) = value.as_object_mut() {
                    value.remove("Agent");
                }
                Ok(value)
            };
            text.lines().map(line).collect()
        };
        ensure!(read(&theirs)? == read(&ours)?, "{theirs} / {ours}");
        let format =
            "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Time}} {{.From}} {{.Actor.Attributes.name}}";
        let words = [&events[..], &["--format", format]].concat();
        let theirs = docker.cli(&words).await?;
        let ours = dockctl.ok(&[&words[..], &["--on", "web-1"]].concat()).await?;
        ensure!(theirs == ours.trim_end(), "{theirs} / {ours}");
        Ok(())
    });
}

#[test]
fn a_template_that_makes_no_sense_is_a_usage_error() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let up = docker.run("up", "exec sleep 100000").await?;
        for (format, why) in [
            ("{{foo .ID}}", "function \"foo\" not defined"),
            ("{{.ID", "unclosed action"),
            ("{{.Foo}}", "Foo"),
            ("{{if}}", "missing value for if"),
        ] {
            for words in [&["ps", "--format", format][..], &["inspect", "-f", format, &up.name]] {
                let theirs = docker.raw(words).await?;
                ensure!(theirs.code != 0 && theirs.stderr.contains(why), "{theirs:?}");
                let ours = dockctl.run(words).await?.failed(2)?;
                ensure!(ours.contains(why), "{ours}");
            }
        }
        Ok(())
    });
}
