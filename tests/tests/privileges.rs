//! The agent never needs root: a user without any right runs it, with the socket's group, a socket
//! proxy or a TLS certificate for Docker.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::{AgentState, CreateJoinTokenRequest};
use dockctl_tests::{
    AgentSpec, Controller, Dockctl, DockerProxy, LONG, Netns, Nobody, Process, World, await_until,
    consecutive_lines, counting_script, inventory_is_dockers, scenario,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Joins as that user and checks that it has no right that root has.
async fn joined(
    world: &World,
    controller: &Controller<'_>,
    user: &Nobody,
    docker: &str,
) -> Result<Process> {
    let spec = AgentSpec::new(world, controller, "web-1")?;
    let spec = AgentSpec { data_dir: user.data_dir(), docker: docker.to_owned(), ..spec };
    let token = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
    let agent = user.runs(&spec.join_command(&token)?);
    let mut process = Process::spawn("web-1", agent, world.logs())?;
    process.ready::<serde_json::Value>().await?;
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let field = |name| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim();
    ensure!(field("Uid:").split_whitespace().all(|id| id == "65534"), "{status}");
    ensure!(field("CapEff:").trim_matches('0').is_empty(), "{status}");
    Ok(process)
}

/// Every way in which the agent reads from Docker.
async fn reads_work(dockctl: &Dockctl<'_>, container: &str) -> Result<()> {
    let at_host = format!("web-1/{container}");
    ensure!(dockctl.ok(&["ps", "--on", "web-1"]).await?.contains(container), "ps");
    ensure!(dockctl.ok(&["inspect", &at_host]).await?.contains(container), "inspect");
    ensure!(dockctl.ok(&["stats", "--no-stream", &at_host]).await?.contains(container), "stats");
    ensure!(dockctl.ok(&["images", "--on", "web-1"]).await?.contains("busybox"), "images");
    let log = dockctl.run(&["logs", &at_host]).await?;
    ensure!(log.code == 0 && consecutive_lines(&log.stdout)? > 0, "{log:?}");
    let follow = dockctl.start(&["logs", "-f", &at_host])?;
    consecutive_lines(&follow.wait_for_lines(100).await?)?;
    Ok(())
}

#[test]
fn an_agent_of_a_user_with_nothing_but_the_sockets_group_does_everything() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let docker = world.docker();
        let socket = docker.host().strip_prefix("unix://").context("a socket")?;
        let user = Nobody::with_group_of(Some(Path::new(socket)))?;
        let _agent = joined(world, &controller, &user, docker.host()).await?;
        let container = docker.run("c", counting_script()).await?;
        inventory_is_dockers(&controller, &docker).await?;
        let dockctl = controller.dockctl().await?;
        reads_work(&dockctl, &container.name).await?;

        let events = dockctl.start(&["events", "--on", "web-1"])?;
        let at_host = format!("web-1/{}", container.name);
        for (verb, running) in
            [("stop", "false"), ("start", "true"), ("restart", "true"), ("kill", "false")]
        {
            dockctl.ok(&[verb, &at_host]).await?;
            await_until(verb, LONG, async || {
                let now = docker.inspect(&container.name, "{{.State.Running}}").await?;
                Ok((now == running).then_some(()))
            })
            .await?;
        }
        await_until("an event", LONG, async || {
            Ok(String::from_utf8(events.stdout()?)?.contains(&container.id[..12]).then_some(()))
        })
        .await
    });
}

#[test]
fn an_agent_of_a_user_without_any_group_works_through_a_socket_proxy() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let docker = world.docker();
        let proxy = DockerProxy::start(docker.host()).await?;
        let user = Nobody::with_group_of(None)?;
        let _agent = joined(world, &controller, &user, &proxy.url()).await?;
        let container = docker.run("c", counting_script()).await?;
        inventory_is_dockers(&controller, &docker).await?;
        reads_work(&controller.dockctl().await?, &container.name).await
    });
}

#[test]
fn an_agent_that_may_not_use_the_socket_stays_connected_and_says_what_to_do() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let user = Nobody::with_group_of(None)?;
        let _agent = joined(world, &controller, &user, world.docker().host()).await?;
        let dockctl = controller.dockctl().await?;
        let said = dockctl.run(&["ps", "--on", "web-1"]).await?.failed(1)?;
        ensure!(said.contains("add the user to the group docker"), "{said}");
        let listed = await_until("it to be told", LONG, async || {
            let listed = dockctl.ok(&["agents", "ls"]).await?;
            Ok(listed.contains("group docker").then_some(listed))
        })
        .await?;
        ensure!(listed.contains("connected"), "{listed}");
        Ok(())
    });
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Authority> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// Writes ca.pem, cert.pem and key.pem, as Docker names them: a certificate of `issuer` for `address`,
/// and whom to trust.
fn certificates(dir: &Path, issuer: &Authority, trusted: &Authority, address: &str) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![address.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, address);
    fs::write(dir.join("ca.pem"), trusted.pem())?;
    fs::write(dir.join("cert.pem"), params.signed_by(&key, issuer)?.pem())?;
    fs::write(dir.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

#[test]
fn an_agent_reaches_its_dockerd_over_tls_and_trusts_no_other() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let netns = Netns::new()?;
        let (ca, foreign) = (authority("the engine's")?, authority("a foreign one")?);
        let (server, client) = (world.dir("server-tls")?, world.dir("client-tls")?);
        certificates(&server, &ca, &ca, netns.inside())?;
        certificates(&client, &ca, &foreign, "an agent")?;
        let path = |file: &str| format!("{}/{file}", server.display());
        let address = format!("tcp://{}:2376", netns.inside());
        let (ca_pem, cert, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
        let tls = ["-H", &address, "--tlsverify", "--tlscacert", &ca_pem, "--tlscert", &cert];
        let options = [&tls[..], &["--tlskey", &key]].concat();
        let engine = world.private_dockerd_in(&netns, &options).await?;
        let container = engine.docker().run("c", counting_script()).await?;

        // An engine of a foreign CA is refused, in words that name the certificate.
        let spec = AgentSpec::new(world, &controller, "web-1")?;
        let env = vec![
            ("DOCKER_TLS_VERIFY".to_owned(), "1".to_owned()),
            ("DOCKER_CERT_PATH".to_owned(), client.display().to_string()),
        ];
        let mut agent =
            world.join(&controller, AgentSpec { docker: address.clone(), env, ..spec }).await?;
        let dockctl = controller.dockctl().await?;
        let said = dockctl.run(&["ps", "--on", "web-1"]).await?.failed(1)?;
        ensure!(said.contains(&address) && said.contains("certificate"), "{said}");

        // With the right CA everything works, live events too.
        certificates(&client, &ca, &ca, "an agent")?;
        agent.process.terminate().await?;
        agent.start_again().await?;
        controller.await_state("web-1", AgentState::Connected).await?;
        inventory_is_dockers(&controller, engine.docker()).await?;
        reads_work(&dockctl, &container.name).await?;
        let events = dockctl.start(&["events", "--on", "web-1"])?;
        dockctl.ok(&["stop", "-t", "1", &format!("web-1/{}", container.name)]).await?;
        await_until("its end among the events", LONG, async || {
            let text = String::from_utf8(events.stdout()?)?;
            Ok(text.contains(" container die ").then_some(()))
        })
        .await?;

        // A client that the engine does not know is refused, and told so.
        certificates(&client, &foreign, &ca, "an agent")?;
        agent.process.terminate().await?;
        agent.start_again().await?;
        let said = dockctl.run(&["ps", "--on", "web-1"]).await?.failed(1)?;
        // As rustls names the alert: BadCertificate, UnknownCA.
        ensure!(said.contains("fatal alert"), "{said}");
        Ok(())
    });
}
