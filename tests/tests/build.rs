//! Builds on a host from a context here.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use dockctl_tests::{Dockctl, IMAGE, LONG, World, await_until, scenario};

fn context(world: &World, files: &[(&str, &str)]) -> Result<PathBuf> {
    let dir = world.dir("context")?;
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().context("no parent")?)?;
        fs::write(path, text)?;
    }
    Ok(dir)
}

fn text(path: &std::path::Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

#[test]
fn a_build_takes_its_context_and_flags_and_prints_as_it_goes() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let dockerfile = format!(
            "FROM {IMAGE} AS first\nARG WHO\nCOPY . /context/\n\
             RUN echo \"for $WHO\" && find /context -type f | sort > /list\n\
             FROM first AS second\nRUN echo never\n"
        );
        let dir = context(
            world,
            &[
                ("Dockerfile", &dockerfile),
                (".dockerignore", "**/*.tmp\nsecret\n!keep.tmp\nDockerfile\n"),
                ("a", "a"),
                ("d/e/b", "b"),
                ("d/e/c.tmp", "c"),
                ("keep.tmp", "k"),
                ("secret/key", "s"),
            ],
        )?;
        let image = format!("{}:1", world.own("built"));
        let ((key, value), label) = (docker.label(), docker.selector());
        let said = dockctl
            .ok(&[
                "build",
                "-t",
                &image,
                "--build-arg",
                "WHO=me",
                "--label",
                &label,
                "--no-cache",
                "--target",
                "first",
                "--network",
                "none",
                "--on",
                "web-1",
                text(&dir)?,
            ])
            .await?;
        ensure!(said.contains("Step 1/5 : FROM ") && said.contains("\nfor me\n"), "{said}");
        ensure!(!said.contains("never"), "{said}");
        ensure!(said.contains(&format!("Successfully tagged {image}\n")), "{said}");
        let list =
            docker.cli(&["run", "--rm", "--network", "none", &image, "cat", "/list"]).await?;
        ensure!(
            list == "/context/.dockerignore\n/context/a\n/context/d/e/b\n/context/keep.tmp",
            "{list}"
        );
        let template = format!("{{{{index .Config.Labels \"{key}\"}}}}");
        let labelled = docker.cli(&["image", "inspect", "-f", &template, &image]).await?;
        ensure!(labelled == value, "{labelled}");

        // A Dockerfile from elsewhere, and only the id.
        let other = context(world, &[("Other", "FROM scratch\nCOPY a /\n")])?.join("Other");
        let said = dockctl
            .ok(&["images", "build", "-q", "-t", &image, "-f", text(&other)?, text(&dir)?])
            .await?;
        let id = docker.cli(&["image", "inspect", "-f", "{{.Id}}", &image]).await?;
        ensure!(said.trim_end() == id, "{said}");
        Ok(())
    });
}

#[test]
fn a_context_may_be_compressed_and_steps_containers_go_or_stay() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let dockerfile = format!("FROM {IMAGE}\nCOPY a /a\nRUN cat /a\n");
        let dir = context(world, &[("Dockerfile", &dockerfile), ("a", "it came through\n")])?;
        let build = async |flags: &[&str]| {
            let usual = ["build", "--no-cache", "--network", "none"];
            dockctl.ok(&[&usual[..], flags, &[text(&dir)?]].concat()).await
        };
        let removed = "Removing intermediate container";
        let said = build(&["--compress"]).await?;
        ensure!(said.contains("\nit came through\n") && said.contains(removed), "{said}");
        let said = build(&["--rm=false", "--force-rm"]).await?;
        ensure!(said.contains(removed), "{said}");
        let said = build(&["--rm=false"]).await?;
        ensure!(!said.contains(removed), "{said}");
        let left = said.lines().filter_map(|line| line.split_once("Running in "));
        let left: Vec<_> = left.map(|(_, id)| id.trim()).collect();
        ensure!(left.len() == 1, "{said}");
        docker.cli(&["rm", left[0]]).await?;
        Ok(())
    });
}

#[test]
fn a_dockerfile_or_an_archive_may_come_by_stdin() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let image = format!("{}:1", world.own("piped"));
        let dockerfile = format!("FROM {IMAGE}\nLABEL from=stdin\n");
        let run = dockctl.run_with_input(&["build", "-t", &image, "-"], &dockerfile).await?;
        run.done()?;
        let from = ["image", "inspect", "-f", "{{.Config.Labels.from}}", &image];
        ensure!(docker.cli(&from).await? == "stdin");

        let dir = context(
            world,
            &[("Dockerfile", "FROM scratch\nCOPY x /\nLABEL from=tar\n"), ("x", "x")],
        )?;
        let tar =
            std::process::Command::new("tar").args(["-cz", "-C", text(&dir)?, "."]).output()?;
        dockctl.run_with_input(&["build", "-t", &image, "-"], tar.stdout).await?.done()?;
        ensure!(docker.cli(&from).await? == "tar");
        Ok(())
    });
}

#[test]
fn a_step_that_fails_ends_the_build_with_its_output_and_exit_code_1() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let dockerfile = format!("FROM {IMAGE}\nRUN echo so far so good && exit 3\n");
        let dir = context(world, &[("Dockerfile", &dockerfile)])?;
        let build = dockctl.run(&["build", "--network", "none", text(&dir)?]).await?;
        ensure!(build.code == 1, "{build:?}");
        let out = String::from_utf8(build.stdout)?;
        ensure!(out.contains("so far so good\n"), "{out}");
        ensure!(build.stderr.contains("web-1: The command"), "{}", build.stderr);
        ensure!(build.stderr.contains("returned a non-zero code: 3"), "{}", build.stderr);

        for (arguments, code, wanted) in [
            (&["build", "/no/such/dir"][..], 1, "/no/such/dir"),
            (&["build", "-f", "-", "-"], 2, "can't use stdin for both"),
            (&["build", "-t", "A B", text(&dir)?], 2, "invalid reference format"),
        ] {
            let said = dockctl.run(arguments).await?.failed(code)?;
            ensure!(said.contains(wanted), "{said}");
        }
        Ok(())
    });
}

#[test]
fn a_hang_up_ends_the_build_and_its_container() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let agent = world.agent(&controller, "web-1").await?;
        let dockctl: Dockctl<'_> = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        dockctl.ok(&["ping", "web-1"]).await?;
        let idle = agent.process.sockets()?;
        let label = docker.selector();
        let dockerfile =
            format!("FROM {IMAGE}\nLABEL {label}\nRUN echo it begins && sleep 100000\n");
        let dir = context(world, &[("Dockerfile", &dockerfile)])?;
        let mut build = dockctl.start(&["build", "--network", "none", text(&dir)?])?;
        await_until("the step's output", LONG, async || {
            let out = String::from_utf8_lossy(&build.stdout()?).into_owned();
            Ok(out.contains("\nit begins\n").then_some(()))
        })
        .await?;
        build.kill9()?;
        let filter = format!("label={label}");
        await_until("the build's container to be gone", LONG, async || {
            let left = docker.cli(&["ps", "-aq", "--filter", &filter]).await?;
            ensure!(left.is_empty(), "{left} is still there");
            Ok((agent.process.sockets()? <= idle).then_some(()))
        })
        .await
    });
}
