//! How a host comes into the fleet, what dockctl can do with it then, and who is kept out.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use dockctl_api::{
    error::{reason, reason_of},
    link::v1::EnrollRequest,
    v1::{
        AgentStanding, AgentState, CreateJoinTokenRequest, ListAgentsRequest, ListJoinTokensRequest,
    },
};
use dockctl_tests::{
    AgentSpec, Api, Controller, Dockctl, LONG, Process, World, await_until, counting_script,
    scenario,
};
use rcgen::{CertificateParams, KeyPair};
use tokio::task::JoinSet;

#[test]
fn a_host_joins_with_one_command_and_every_verb_of_dockctl_works_on_it() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let made = dockctl.json(&["agents", "token", "create", "--label", "room=cellar"]).await?;
        let token = made["token"].as_str().context("no token")?;

        let spec = AgentSpec::new(world, &controller, "web-1")?;
        let mut process = Process::spawn("web-1", spec.join_command(token)?, world.logs())?;
        let ready: serde_json::Value = process.ready().await?;
        ensure!(ready["agent"] == "web-1", "{ready}");

        let agents = dockctl.json(&["agents", "ls"]).await?;
        ensure!(agents[0]["id"] == ready["id"], "{agents}");
        ensure!(agents[0]["labels"]["room"] == "cellar", "{agents}");
        ensure!(dockctl.ok(&["agents", "ls"]).await?.contains("web-1"));
        dockctl.ok(&["agents", "label", "web-1", "rack=7", "room-"]).await?;
        let agent = dockctl.json(&["agents", "show", "web-1"]).await?;
        ensure!(agent["labels"]["rack"] == "7" && agent["labels"]["room"].is_null(), "{agent}");

        let container = docker.run("shop", counting_script()).await?;
        let name = &container.name;
        let at_host = &format!("web-1/{name}");
        await_state_of(&dockctl, name, "running").await?;
        ensure!(dockctl.ok(&["ps"]).await?.contains(name), "dockctl ps");
        ensure!(dockctl.ok(&["ps", "--on", "web-1"]).await?.contains(name), "dockctl ps --on");
        ensure!(dockctl.ok(&["ps", "-q", "--no-trunc"]).await?.contains(&container.id));

        let tail = dockctl.ok(&["logs", "--tail", "3", at_host]).await?;
        ensure!(tail.lines().count() >= 3 && tail.starts_with("line "), "{tail}");
        let inspected = dockctl.json(&["inspect", at_host]).await?;
        ensure!(inspected.to_string().contains(&container.id), "{inspected}");
        let stats = dockctl.ok(&["stats", "--no-stream", at_host]).await?;
        ensure!(stats.contains(name), "{stats}");

        dockctl.ok(&["stop", "-t", "1", name]).await?;
        await_state_of(&dockctl, name, "exited").await?;
        dockctl.ok(&["start", at_host]).await?;
        await_state_of(&dockctl, name, "running").await?;
        let started = docker.inspect(name, "{{.State.StartedAt}}").await?;
        dockctl.ok(&["restart", "-t", "1", at_host]).await?;
        ensure!(docker.inspect(name, "{{.State.StartedAt}}").await? != started, "not restarted");
        dockctl.ok(&["kill", at_host]).await?;
        await_state_of(&dockctl, name, "exited").await?;

        let events = dockctl.start(&["events", "--since", "5m", "--on", "web-1", "-o", "json"])?;
        await_until("the events of the past minutes", LONG, async || {
            let text = String::from_utf8(events.stdout()?)?;
            let of_it = |action: &str| {
                text.lines()
                    .any(|l| l.contains(&container.id) && l.contains(&format!("\"{action}\"")))
            };
            Ok(["start", "die", "kill"].into_iter().all(of_it).then_some(()))
        })
        .await?;

        ensure!(dockctl.ok(&["images", "--on", "web-1"]).await?.contains("dockctl/busybox"));
        ensure!(dockctl.ok(&["version"]).await?.contains(dockctl_api::VERSION));
        ensure!(dockctl.ok(&["version", "--on", "web-1"]).await?.contains(dockctl_api::VERSION));
        dockctl.ok(&["ping", "web-1"]).await?;
        let info = dockctl.json(&["info", "web-1"]).await?;
        ensure!(info.to_string().contains("ServerVersion"), "{info}");
        dockctl.ok(&["agents", "token", "ls"]).await?;
        ensure!(dockctl.ok(&["whoami"]).await?.contains("admin"));
        dockctl.ok(&["logout"]).await?;
        dockctl.run(&["ps"]).await?.failed(3)?;
        Ok(())
    });
}

async fn await_state_of(dockctl: &Dockctl<'_>, name: &str, state: &str) -> Result<()> {
    await_until(&format!("{name} to be {state}"), LONG, async || {
        let all = dockctl.json(&["ps", "-a"]).await?;
        let all = all.as_array().context("no array")?;
        let one = all.iter().find(|c| c["name"] == *name).context("not listed")?;
        Ok((one["state"] == *state).then_some(()))
    })
    .await
}

/// Tries to join, which must fail, and gives what the agent said.
async fn refused(world: &World, spec: &AgentSpec, token: &str) -> Result<String> {
    let mut process = Process::spawn(&spec.name, spec.join_command(token)?, world.logs())?;
    let code = process.exit_code().await?;
    ensure!(code > 0, "join ended with {code}");
    ensure!(process.stdout()?.is_empty(), "it said that it was ready");
    process.log()
}

async fn agent_count(controller: &Controller<'_>) -> Result<usize> {
    let mut agents = controller.admin().await?.agents();
    Ok(agents.list_agents(ListAgentsRequest::default()).await?.into_inner().agents.len())
}

/// How many warnings of that reason are in the controller's log.
fn warnings(controller: &Controller<'_>, reason: &str) -> Result<usize> {
    let log = controller.process.log()?;
    Ok(log.lines().filter(|l| l.contains("WARN") && l.contains(reason)).count())
}

#[test]
fn a_token_that_is_unknown_deleted_expired_or_used_up_is_refused_with_a_reason_and_one_warning() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let good = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
        let spec = |name: &str| AgentSpec::new(world, &controller, name);

        // Another secret under the same fingerprint.
        let parts: Vec<&str> = good.split('.').collect();
        let [version, secret, fingerprint] = parts[..] else { anyhow::bail!("token {good}") };
        let unknown = format!("{version}.{}.{fingerprint}", "A".repeat(secret.len()));
        let said = refused(world, &spec("unknown")?, &unknown).await?;
        ensure!(said.contains(reason::TOKEN_INVALID) || said.contains("token"), "{said}");
        ensure!(warnings(&controller, reason::TOKEN_INVALID)? == 1, "not one warning");

        let deleted = controller.join_token(CreateJoinTokenRequest::default()).await?;
        let id = deleted.join_token.context("no record")?.id;
        controller.dockctl().await?.ok(&["agents", "token", "rm", &id]).await?;
        refused(world, &spec("deleted")?, &deleted.token).await?;
        ensure!(warnings(&controller, reason::TOKEN_INVALID)? == 2, "not one warning each");

        let ttl = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let short = CreateJoinTokenRequest { ttl, ..CreateJoinTokenRequest::default() };
        let short = controller.join_token(short).await?;
        let id = short.join_token.context("no record")?.id;
        let mut api = controller.admin().await?.agents();
        await_until("the token to end", LONG, async || {
            let tokens = api.list_join_tokens(ListJoinTokensRequest {}).await?.into_inner();
            let one = tokens.join_tokens.into_iter().find(|t| t.id == id).context("not listed")?;
            let end = one.expires_at.context("no end")?;
            Ok((std::time::SystemTime::try_from(end)? < std::time::SystemTime::now()).then_some(()))
        })
        .await?;
        let said = refused(world, &spec("late")?, &short.token).await?;
        ensure!(said.contains("expired") || said.contains(reason::TOKEN_EXPIRED), "{said}");
        ensure!(warnings(&controller, reason::TOKEN_EXPIRED)? == 1, "not one warning");

        ensure!(agent_count(&controller).await? == 0, "a refused agent is listed");
        let mut first = Process::spawn("first", spec("first")?.join_command(&good)?, world.logs())?;
        first.ready::<serde_json::Value>().await?;
        let said = refused(world, &spec("second")?, &good).await?;
        ensure!(said.contains("used") || said.contains(reason::TOKEN_USED_UP), "{said}");
        ensure!(warnings(&controller, reason::TOKEN_USED_UP)? == 1, "not one warning");
        ensure!(agent_count(&controller).await? == 1, "a refused agent is listed");
        Ok(())
    });
}

#[test]
fn a_token_of_another_controller_is_refused_before_anything_is_sent() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let other = world.controller().await?;
        let foreign = other.join_token(CreateJoinTokenRequest::default()).await?.token;
        let spec = AgentSpec::new(world, &controller, "web-1")?;
        let said = refused(world, &spec, &foreign).await?;
        ensure!(said.to_lowercase().contains("fingerprint"), "{said}");
        for controller in [&controller, &other] {
            ensure!(agent_count(controller).await? == 0, "a refused agent is listed");
        }
        Ok(())
    });
}

#[test]
fn a_malformed_token_or_name_is_refused_with_a_sentence() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let token = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
        let mut spec = AgentSpec::new(world, &controller, "web-1")?;
        for bad in ["", "hello", "dockctl1.x.y", &format!("{token}\n")[1..]] {
            refused(world, &spec, bad).await?;
        }
        spec.name = "Web 1; rm -rf".to_owned();
        refused(world, &spec, &token).await?;
        ensure!(agent_count(&controller).await? == 0, "a refused agent is listed");
        Ok(())
    });
}

#[test]
fn of_a_hundred_hosts_with_one_single_use_token_exactly_one_gets_a_certificate() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let token = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
        let secret = token.split('.').nth(1).context("no secret in the token")?;
        let mut tries = JoinSet::new();
        for n in 0..100 {
            let key = KeyPair::generate()?;
            let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
            let request = EnrollRequest {
                token: secret.to_owned(),
                csr: csr.into(),
                name: format!("web-{n}"),
                ..EnrollRequest::default()
            };
            let (address, fingerprint) = (controller.agents, controller.ca_fingerprint.clone());
            tries.spawn(async move {
                let api = Api::connect(address, &fingerprint, None).await?;
                anyhow::Ok(api.link().enroll(request).await)
            });
        }
        let mut certificates = 0;
        while let Some(tried) = tries.join_next().await {
            match tried?? {
                Ok(response) => {
                    ensure!(response.into_inner().certificate.is_some(), "no certificate");
                    certificates += 1;
                }
                Err(status) => {
                    ensure!(
                        reason_of(&status).as_deref() == Some(reason::TOKEN_USED_UP),
                        "{status}"
                    );
                }
            }
        }
        ensure!(certificates == 1, "{certificates} certificates");
        ensure!(agent_count(&controller).await? == 1);
        Ok(())
    });
}

#[test]
fn a_revoked_agent_is_cut_off_and_never_let_back_in() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let dockctl = controller.dockctl().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let container = docker.run("c", counting_script()).await?;
        let mut follow = dockctl.start(&["logs", "-f", &format!("web-1/{}", container.name)])?;
        follow.wait_for_lines(10).await?;

        dockctl.ok(&["agents", "revoke", "web-1", "-y", "--reason", "stolen"]).await?;
        let code = follow.exit_code().await?;
        ensure!(code == 3 || code == 5, "the follow ended with {code}: {}", follow.tail());
        let record = controller.await_state("web-1", AgentState::Offline).await?;
        ensure!(record.standing() == AgentStanding::Revoked);
        agent.process.wait_for_log("revoked").await?;

        // A new process with the old identity is no better off.
        agent.process.kill9()?;
        let again = Process::spawn("web-1", agent.spec.run_command()?, world.logs())?;
        again.wait_for_log("revoked").await?;
        again.wait_for_log(&format!("remove {}", agent.spec.data_dir.display())).await?;
        ensure!(again.stdout()?.is_empty(), "it said that it was ready");
        controller.process.wait_for_log("an agent was refused").await?;
        ensure!(controller.agent_record("web-1").await?.state() == AgentState::Offline);

        // Nor does its name come free before it is deleted.
        let spec = AgentSpec::new(world, &controller, "web-1")?;
        let token = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
        refused(world, &spec, &token).await?;
        dockctl.ok(&["agents", "rm", "web-1", "-y"]).await?;
        ensure!(agent_count(&controller).await? == 0);
        let fresh = world.agent(&controller, "web-1").await?;
        ensure!(fresh.id != agent.id, "an id was used again");
        Ok(())
    });
}

#[test]
fn a_join_at_the_users_port_says_which_one_is_the_agents() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let token = controller.join_token(CreateJoinTokenRequest::default()).await?;
        ensure!(token.agents_port == u32::from(controller.agents.port()), "{}", token.agents_port);
        let mut spec = AgentSpec::new(world, &controller, "web-1")?;
        spec.controller = controller.api.to_string();
        let said = refused(world, &spec, &token.token).await?;
        ensure!(said.contains("port for users") && said.contains("7444"), "{said}");
        Ok(())
    });
}

#[test]
fn a_second_join_under_another_name_is_not_taken_for_done() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        agent.process.kill9()?;
        agent.spec.name = "web-2".to_owned();
        let token = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
        let mut join = agent.spec.join_command(&token)?;
        join.arg("--only-join");
        let mut process = Process::spawn("web-2", join, world.logs())?;
        ensure!(process.exit_code().await? == 1, "it was taken for done");
        let said = process.log()?;
        ensure!(said.contains("enrolled as web-1") && said.contains("new token"), "{said}");
        Ok(())
    });
}

#[test]
fn login_refuses_a_wrong_fingerprint_and_a_wrong_password_and_stores_nothing() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let dockctl = Dockctl::new(world)?;
        let url = format!("https://{}", controller.api);
        let login = ["login", &url, "--username", "admin", "--password-stdin", "--ca-fingerprint"];

        let wrong = "0".repeat(64);
        let tried = dockctl.run_with_input(&[&login[..], &[&wrong]].concat(), "x").await?;
        ensure!(tried.code != 0 && tried.stderr.contains("fingerprint"), "{tried:?}");
        ensure!(!dockctl.config.exists(), "something was stored");

        let right = [&login[..], &[&controller.ca_fingerprint]].concat();
        let said = dockctl.run_with_input(&right, "wrong").await?.failed(3)?;
        ensure!(said.contains("password"), "{said}");
        ensure!(!dockctl.config.exists(), "something was stored");
        Ok(())
    });
}

#[test]
fn the_first_password_is_random_where_none_is_given_and_nobody_else_may_read_it() {
    scenario(async |world| {
        use std::os::unix::fs::PermissionsExt;
        let data_dir = world.dir("controller")?;
        let mut command: Command = world.binary("dockctl-controller")?;
        command.args(["serve", "--ready-json", "--data-dir"]).arg(&data_dir);
        for listen in ["--listen", "--agent-listen", "--metrics-listen"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        let mut process = Process::spawn("controller", command, world.logs())?;
        let ready: serde_json::Value = process.ready().await?;
        let file = data_dir.join("initial-admin-password");
        let mode = std::fs::metadata(&file)?.permissions().mode();
        ensure!(mode & 0o777 == 0o600, "mode {mode:o}");
        let password = std::fs::read_to_string(&file)?;
        let api = ready["api"].as_str().context("no api")?.parse()?;
        let fingerprint = ready["ca_fingerprint"].as_str().context("no fingerprint")?;
        let log = process.log()?;
        ensure!(!log.contains(password.trim()), "the password is in the log");
        let told = format!("made the user admin; its password is in {}", file.display());
        ensure!(log.contains(&told), "{log}");
        Api::login(api, fingerprint, "admin", password.trim()).await?;
        Ok(())
    });
}
