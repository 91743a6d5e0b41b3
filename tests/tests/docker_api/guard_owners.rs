//! A confined host whose owner has made containers, volumes and networks with which whoever gets at them
//! would be root on it.

use anyhow::{Result, ensure};
use dockctl_tests::{Dockctl, Docker, IMAGE, Output, World, scenario};

use super::{Socket, agent_with, guard::ask};

const GIVES_AWAY: &str = "would give away the host";

/// That it is refused, in the guard's words.
fn refused(said: &Output, what: &[&str], words: &str) -> Result<()> {
    ensure!(said.code != 0, "{what:?} was let through: {said:?}");
    ensure!(said.stderr.contains("this host is confined"), "{what:?}: {said:?}");
    ensure!(said.stderr.contains(words), "{what:?}: {said:?}");
    Ok(())
}

/// The engine's own socket as a container's mount. It exists: the engine makes a directory of what does not.
fn engines_socket(direct: &Docker) -> String {
    format!("{}:/var/run/docker.sock", direct.host().trim_start_matches("unix://"))
}

/// Makes a container as the owner does, on the engine itself, and gives its name. It is not started: not
/// every machine that runs tests may start all of them.
async fn owners(world: &World, name: &str, options: &[&str]) -> Result<String> {
    let name = world.own(name);
    let label = format!("dockctl.test={}", world.prefix());
    let create = ["create", "-i", "--init", "--label", &label, "--name", &name];
    let program = [IMAGE, "sh", "-c", "exec sleep 100000"];
    world.docker().cli(&[&create[..], options, &program].concat()).await?;
    Ok(name)
}

/// All ways into a container that docker and dockctl have are refused.
async fn no_way_into(docker: &Docker, dockctl: &Dockctl<'_>, name: &str, file: &str) -> Result<()> {
    let from = format!("{name}:/etc");
    let to = format!("{name}:/tmp");
    let (of, other) = (format!("container:{name}"), format!("{name}-renamed"));
    for way in [
        &["exec", name, "true"][..],
        &["exec", "-i", "-u", "0", name, "sh"],
        &["cp", file, &to],
        &["cp", &from, "-"],
        &["rename", name, &other],
        &["create", "--network", "none", "--volumes-from", name, IMAGE],
        &["create", "--network", "none", "--volumes-from", &format!("{name}:ro"), IMAGE],
        &["create", "--network", "none", "--pid", &of, IMAGE],
        &["create", "--network", "none", "--ipc", &of, IMAGE],
        &["create", "--network", &of, IMAGE],
        &["network", "connect", "bridge", name],
    ] {
        refused(&docker.raw(way).await?, way, GIVES_AWAY)?;
    }
    let at = |what: &str| format!("web-1/{what}");
    let (there, from, to) = (at(name), at(&from), at(&to));
    for way in [
        &["exec", &there, "true"][..],
        &["cp", file, &to],
        &["cp", &from, "-"],
        &["rename", &there, &other],
        &["create", "--on", "web-1", "--network", "none", "--volumes-from", name, IMAGE],
        &["create", "--on", "web-1", "--network", "none", "--pid", &of, IMAGE],
        &["create", "--on", "web-1", "--network", "none", "--ipc", &of, IMAGE],
        &["create", "--on", "web-1", "--network", &of, IMAGE],
    ] {
        refused(&dockctl.run(way).await?, way, GIVES_AWAY)?;
    }
    Ok(())
}

#[test]
fn nobody_gets_into_containers_that_have_the_host_in_them() {
    scenario(async |world| {
        let direct = world.docker();
        let _tidy = world.tidy(&direct);
        let controller = world.controller().await?;
        let _agent = agent_with(world, &controller, &[("DOCKCTL_CONFINE", "true")]).await?;
        let dockctl = controller.dockctl().await?;
        let socket = Socket::open(world, &dockctl).await?;
        let file = world.dir("file")?.join("file");
        std::fs::write(&file, "content")?;
        let file = file.display().to_string();

        let (root, state) = (world.own("root"), world.own("state"));
        let bind = ["-o", "type=none", "-o", "o=bind", "-o", "device=/"];
        direct.cli(&[&["volume", "create"], &bind[..], &[&root]].concat()).await?;
        let none = ["--network", "none"];
        let with = |options: &[&'static str]| [&none[..], options].concat();
        let root_at = format!("{root}:/h");
        let state_at = format!("{state}:/s");
        let socket_at = engines_socket(&direct);
        let mounts = [&none[..], &["-v", &socket_at, "-v", &state_at]].concat();
        let agent = owners(world, "agent", &mounts).await?;
        direct.cli(&["start", &agent]).await?;
        let pid = owners(world, "pid", &with(&["--pid", "host"])).await?;
        let mut all = vec![
            owners(world, "slash", &with(&["-v", "/:/h:ro"])).await?,
            owners(world, "privileged", &with(&["--privileged"])).await?,
            owners(world, "cap", &with(&["--cap-add", "SYS_ADMIN"])).await?,
            owners(world, "device", &with(&["--device", "/dev/null:/dev/x"])).await?,
            owners(world, "ipc", &with(&["--ipc", "host"])).await?,
            owners(world, "net", &["--network", "host"]).await?,
            owners(world, "volume", &[&none[..], &["-v", &root_at]].concat()).await?,
            // With nothing of it in their own HostConfig.
            owners(world, "from", &[&none[..], &["--volumes-from", &agent]].concat()).await?,
            owners(world, "beside", &[&none[..], &["--pid", &format!("container:{pid}")]].concat())
                .await?,
        ];
        all.extend([agent.clone(), pid]);
        for name in &all {
            no_way_into(&socket.docker, &dockctl, name, &file).await?;
        }
        // Both look first whether it runs; docker's client shows only the status.
        let said = socket.docker.raw(&["attach", "--no-stdin", &agent]).await?;
        ensure!(said.code == 1 && said.stderr.contains("received 403"), "{said:?}");
        let way = ["attach", &format!("web-1/{agent}")];
        refused(&dockctl.run(&way).await?, &way, GIVES_AWAY)?;
        // By any other name.
        let id = direct.inspect(&agent, "{{.Id}}").await?;
        for name in [&id, &id[..12], &id[..6]] {
            let way = ["exec", name, "true"];
            refused(&socket.docker.raw(&way).await?, &way, GIVES_AWAY)?;
        }
        let (status, answer) = ask(
            &socket.path,
            &format!(
                "GET /v1.41/containers/{agent}/attach/ws?stream=1&stdin=1 HTTP/1.1\r\nHost: x\r\n\
                 Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ),
        )?;
        ensure!(status == 403 && answer.contains(GIVES_AWAY), "{answer}");
        // An exec that the owner has made.
        let api = made_exec(&direct, &agent)?;
        let (status, answer) = ask(&socket.path, &start(&api))?;
        ensure!(status == 403 && answer.contains(GIVES_AWAY), "{answer}");

        // The volume that is the host's root, and the one whose keys and programs are the agent's.
        for (volume, words) in [(&root, GIVES_AWAY), (&state, "belongs to another")] {
            let (bind, mount) =
                (format!("{volume}:/v"), format!("type=volume,src={volume},dst=/v"));
            for mounted in [["-v", &bind], ["--mount", &mount]] {
                let way = [&["create", "--network", "none"], &mounted[..], &[IMAGE]].concat();
                refused(&socket.docker.raw(&way).await?, &way, words)?;
                let way = [&["create", "--on", "web-1"], &mounted[..], &[IMAGE]].concat();
                refused(&dockctl.run(&way).await?, &way, words)?;
            }
        }
        // The owner goes on with them, and what does not reach into them is everybody's.
        for name in &all {
            ensure!(direct.inspect(name, "{{.Name}}").await? == format!("/{name}"), "{name}");
        }
        direct.cli(&["exec", &agent, "true"]).await?;
        socket.docker.cli(&["logs", &agent]).await?;
        socket.docker.cli(&["restart", "-t", "0", &agent]).await?;
        dockctl.ok(&["inspect", &format!("web-1/{agent}")]).await?;
        Ok(())
    });
}

/// A request that starts an exec.
fn start(id: &str) -> String {
    let body = r#"{"Detach":true}"#;
    format!(
        "POST /exec/{id}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Makes an exec at an engine without starting it, and gives its id.
fn made_exec(docker: &Docker, container: &str) -> Result<String> {
    let body = r#"{"Cmd":["true"]}"#;
    let request = format!(
        "POST /containers/{container}/exec HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let (status, answer) = ask(docker.host().trim_start_matches("unix://"), &request)?;
    let id = answer.split("\"Id\":\"").nth(1).and_then(|rest| rest.get(..64));
    ensure!(status == 201 && id.is_some(), "{answer}");
    Ok(id.unwrap_or_default().to_owned())
}

#[test]
fn containers_without_the_host_in_them_are_everybodys() {
    scenario(async |world| {
        let direct = world.docker();
        let _tidy = world.tidy(&direct);
        let controller = world.controller().await?;
        let _agent = agent_with(world, &controller, &[("DOCKCTL_CONFINE", "true")]).await?;
        let dockctl = controller.dockctl().await?;
        let socket = Socket::open(world, &dockctl).await?;
        let docker = &socket.docker;
        let file = world.dir("file")?.join("file");
        std::fs::write(&file, "content")?;
        let file = file.display().to_string();

        let data = world.own("data");
        let data_at = format!("{data}:/data");
        let options = ["--network", "none", "-v", &data_at, "--ipc", "shareable"];
        let name = owners(world, "harmless", &options).await?;
        direct.cli(&["start", &name]).await?;
        // A backup that only reads the data takes it from nobody, whatever else it has.
        let read = format!("{data}:/backup:ro");
        let socket_at = engines_socket(&direct);
        owners(world, "backup", &["--network", "none", "-v", &read, "-v", &socket_at]).await?;
        let id = direct.inspect(&name, "{{.Id}}").await?;

        let label = format!("dockctl.test={}", world.prefix());
        for name in [&name, &id, &id[..12]] {
            docker.cli(&["cp", &file, &format!("{name}:/data/file")]).await?;
            let said = docker.cli(&["exec", name, "cat", "/data/file"]).await?;
            ensure!(said == "content", "{said}");
            let there = format!("web-1/{name}");
            let said = dockctl.ok(&["exec", &there, "cat", "/data/file"]).await?;
            ensure!(said == "content", "{said}");
            dockctl.ok(&["cp", &file, &format!("{there}:/data/file")]).await?;
            let of = format!("container:{name}");
            for shared in [
                ["--volumes-from", name],
                ["--volume", &data_at],
                ["--pid", &of],
                ["--ipc", &of],
                ["--network", &of],
            ] {
                let none = if shared[0] == "--network" { &[][..] } else { &["--network", "none"] };
                let run = [&["run", "--rm", "--label", &label], none, &shared, &[IMAGE]].concat();
                let said = docker.cli(&[&run[..], &["echo", "hello"]].concat()).await?;
                ensure!(said == "hello", "{shared:?}: {said}");
                let run = [&["run", "--rm", "--on", "web-1", "--label", &label], none, &shared];
                let run = [&run.concat()[..], &[IMAGE, "echo", "hello"]].concat();
                ensure!(dockctl.ok(&run).await? == "hello\n", "{shared:?}");
            }
        }
        let (status, answer) = ask(&socket.path, &start(&made_exec(&direct, &name)?))?;
        ensure!(status == 200, "{answer}");
        let renamed = world.own("renamed");
        docker.cli(&["rename", &name, &renamed]).await?;
        docker.cli(&["exec", &renamed, "true"]).await?;
        // What is not there is told in docker's words.
        let said = docker.raw(&["exec", "no-such", "true"]).await?;
        ensure!(said.stderr.contains("No such container: no-such"), "{said:?}");
        let said = dockctl.run(&["exec", "web-1/no-such", "true"]).await?;
        ensure!(said.code == 125 && said.stderr.contains("no-such"), "{said:?}");
        Ok(())
    });
}

#[test]
fn networks_reach_nothing_of_the_host() {
    scenario(async |world| {
        let direct = world.docker();
        let _tidy = world.tidy(&direct);
        let controller = world.controller().await?;
        let _agent = agent_with(world, &controller, &[("DOCKCTL_CONFINE", "true")]).await?;
        let dockctl = controller.dockctl().await?;
        let socket = Socket::open(world, &dockctl).await?;
        let docker = &socket.docker;
        let (network, container) = (world.own("net"), world.own("c"));
        for options in [
            &["-d", "macvlan", "-o", "parent=eth0"][..],
            &["-d", "ipvlan", "-o", "parent=eth0"],
            &["-d", "overlay"],
            &["-d", "host"],
            &["-o", "com.docker.network.bridge.name=docker0"],
            &["--subnet", "169.254.169.0/24"],
            &["--subnet", "8.8.8.0/24"],
        ] {
            let way = [&["network", "create"], options, &[&network]].concat();
            refused(&docker.raw(&way).await?, &way, "a network's")?;
            let options: Vec<&str> =
                options.iter().map(|o| if *o == "-o" { "--opt" } else { o }).collect();
            let way =
                [&["networks", "create", "--on", "web-1"], &options[..], &[&network]].concat();
            refused(&dockctl.run(&way).await?, &way, "a network's")?;
        }
        let label = format!("dockctl.test={}", world.prefix());
        docker.cli(&["network", "create", "--internal", "--label", &label, &network]).await?;
        let run = ["run", "-d", "--init", "--label", &label, "--network", &network];
        let name = ["--name", &container, IMAGE, "sleep", "100000"];
        docker.cli(&[&run[..], &name].concat()).await?;

        let host = direct.cli(&["network", "inspect", "-f", "{{.Id}}", "host"]).await?;
        for host in ["host", &host, &host[..12]] {
            let way = ["network", "connect", host, &container];
            refused(&docker.raw(&way).await?, &way, GIVES_AWAY)?;
            let way = ["networks", "connect", host, &container];
            refused(&dockctl.run(&way).await?, &way, GIVES_AWAY)?;
        }
        let second = world.own("second");
        docker.cli(&["network", "create", "--subnet", "10.213.7.0/24", &second]).await?;
        let id = docker.cli(&["network", "inspect", "-f", "{{.Id}}", &second]).await?;
        docker.cli(&["network", "connect", "--alias", "db", &id[..12], &container]).await?;
        let joined = direct.inspect(&container, "{{json .NetworkSettings.Networks}}").await?;
        ensure!(joined.contains(&second) && joined.contains("\"db\""), "{joined}");
        docker.cli(&["network", "disconnect", &second, &container]).await?;
        dockctl.ok(&["networks", "connect", &second, &container]).await?;
        Ok(())
    });
}
