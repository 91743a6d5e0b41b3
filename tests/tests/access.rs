//! Users, roles, tokens and contexts as people and scripts use them: `dockctl users`, `tokens`, `roles`,
//! `context`, and what somebody sees who may not all.

use anyhow::{Context as _, ensure};
use dockctl_tests::{Dockctl, LONG, await_until, scenario};

const IDLE: &str = "exec sleep 100000";
const PASSWORD: &str = "open sesame";

#[test]
fn a_user_sees_and_does_what_was_granted_until_it_is_taken_away() {
    scenario(async |world| {
        let (controller, _agent, docker, admin) = world.one_host("web-1").await?;
        let app = format!("web-1/{}", docker.run("app", IDLE).await?.name);
        admin
            .run_with_input(&["users", "create", "ada", "--password-stdin"], PASSWORD)
            .await?
            .done()?;
        let ada = controller.dockctl_as("ada", PASSWORD).await?;
        ensure!(ada.ok(&["whoami"]).await?.starts_with("ada (none)"));

        let nothing = ada.run(&["agents", "ls"]).await?;
        ensure!(nothing.code == 3 && nothing.stderr.contains("needs agents.read"), "{nothing:?}");
        ensure!(nothing.stderr.contains("role viewer"), "{nothing:?}");

        // A role on hosts that she has none of yet, then one of them.
        admin.ok(&["users", "grant", "ada", "--role", "viewer", "--on", "env=dev"]).await?;
        ensure!(ada.json(&["agents", "ls"]).await?.as_array().is_some_and(Vec::is_empty));
        let hidden = ada.run(&["logs", &app]).await?;
        ensure!(hidden.code == 4 && hidden.stderr.contains("no agent is called"), "{hidden:?}");
        admin.ok(&["agents", "label", "web-1", "env=dev"]).await?;
        ensure!(ada.ok(&["ps"]).await?.contains(app.trim_start_matches("web-1/")));
        let refused = ada.run(&["stop", &app]).await?;
        ensure!(
            refused.code == 3 && refused.stderr.contains("so the role operator"),
            "{refused:?}"
        );
        admin.ok(&["users", "grant", "ada", "--role", "operator", "--on", "env=dev"]).await?;
        ensure!(ada.ok(&["exec", &app, "echo", "here"]).await? == "here\n");

        let listed = admin.ok(&["users", "ls"]).await?;
        let line = listed.lines().find(|l| l.starts_with("ada")).context(listed.clone())?;
        ensure!(line.contains("viewer on env=dev; operator on env=dev"), "{listed}");

        // What is under way ends with the right to it.
        let mut shell = ada.start(&["exec", &app, "sh", "-c", "echo begun; exec sleep 100000"])?;
        shell.wait_for_lines(1).await?;
        admin.ok(&["users", "revoke", "ada", "--on", "env=dev"]).await?;
        let ended = shell.ended().await?;
        ensure!(!ended.success(), "{ended}");
        ensure!(ada.run(&["ps"]).await?.code == 3);

        let denied = admin.ok(&["audit", "ls", "--by", "ada"]).await?;
        ensure!(
            denied.lines().any(|l| l.contains("StopContainer") && l.contains("denied")),
            "{denied}"
        );
        admin.ok(&["users", "rm", "ada", "--yes"]).await?;
        let gone = ada.run(&["whoami"]).await?;
        ensure!(gone.code == 3, "{gone:?}");
        Ok(())
    });
}

#[test]
fn a_script_carries_a_token_that_may_less_than_its_maker() {
    scenario(async |world| {
        let (controller, _agent, docker, admin) = world.one_host("web-1").await?;
        let app = format!("web-1/{}", docker.run("app", IDLE).await?.name);
        let made =
            admin.json(&["tokens", "create", "ci", "--role", "viewer", "--expires", "90d"]).await?;
        let token = made["token"].as_str().context("no token")?.to_owned();
        ensure!(token.starts_with("dockctl_") && made["name"] == "ci", "{made}");

        // As a script has it: no login file.
        let script = Dockctl::new(world)?;
        let url = format!("https://{}", controller.api);
        let env = [
            ("DOCKCTL_URL", &*url),
            ("DOCKCTL_CA_FINGERPRINT", &*controller.ca_fingerprint),
            ("DOCKCTL_TOKEN", &*token),
        ];
        let run = async |arguments: &[&str]| script.run_with_env(arguments, &env).await;
        ensure!(run(&["whoami"]).await?.done()?.starts_with("admin (viewer at most, of admin)"));
        ensure!(run(&["ps"]).await?.done()?.contains(app.trim_start_matches("web-1/")));
        let refused = run(&["stop", &app]).await?;
        ensure!(refused.code == 3 && refused.stderr.contains("admin/ci may not"), "{refused:?}");

        await_until("its use to be told", LONG, async || {
            let listed = admin.ok(&["tokens", "ls"]).await?;
            ensure!(!listed.contains(&token), "a list holds the secret");
            Ok((listed.contains("ci") && !listed.contains("never")).then_some(()))
        })
        .await?;
        admin.ok(&["tokens", "rm", "ci"]).await?;
        let deleted = run(&["ps"]).await?;
        ensure!(deleted.code == 3 && deleted.stderr.contains("API token"), "{deleted:?}");
        Ok(())
    });
}

#[test]
fn passwords_change_and_all_logins_end() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let admin = controller.dockctl().await?;
        admin
            .run_with_input(&["users", "create", "ada", "--password-stdin"], PASSWORD)
            .await?
            .done()?;
        let here = controller.dockctl_as("ada", PASSWORD).await?;
        let there = controller.dockctl_as("ada", PASSWORD).await?;
        let both = format!("{PASSWORD}\nanother one\n");
        here.run_with_input(&["users", "passwd", "--password-stdin"], both).await?.done()?;
        ensure!(here.run(&["whoami"]).await?.code == 0, "who changes it stays logged in");
        ensure!(there.run(&["whoami"]).await?.code == 3);

        let again = controller.dockctl_as("ada", "another one").await?;
        again.ok(&["logout", "--everywhere"]).await?;
        ensure!(here.run(&["whoami"]).await?.code == 3);
        let last = admin.run(&["users", "rm", "admin", "--yes"]).await?;
        ensure!(last.code == 1 && last.stderr.contains("last admin"), "{last:?}");
        let roles = admin.ok(&["roles"]).await?;
        ensure!(roles.lines().any(|l| l.starts_with("docker.api")), "{roles}");
        Ok(())
    });
}

#[test]
fn several_controllers_are_contexts() {
    scenario(async |world| {
        let (first, second) = (world.controller().await?, world.controller().await?);
        let dockctl = first.dockctl().await?;
        let url = format!("https://{}", second.api);
        let login = ["login", &url, "--username", "admin", "--context", "lab", "--password-stdin"];
        let arguments = [&login[..], &["--ca-fingerprint", &*second.ca_fingerprint]].concat();
        dockctl.run_with_input(&arguments, dockctl_tests::ADMIN_PASSWORD).await?.done()?;
        ensure!(dockctl.ok(&["whoami"]).await?.contains(&second.api.to_string()));

        let name = first.api.to_string();
        let listed = dockctl.ok(&["context", "ls"]).await?;
        let used = listed.lines().find(|l| l.starts_with('*')).context(listed.clone())?;
        ensure!(used.contains("lab") && listed.contains(&name), "{listed}");
        dockctl.ok(&["context", "use", &name]).await?;
        ensure!(dockctl.ok(&["whoami"]).await?.contains(&name));
        let unknown = dockctl.run(&["context", "use", "nowhere"]).await?;
        ensure!(unknown.code == 4 && unknown.stderr.contains("context ls"), "{unknown:?}");
        dockctl.ok(&["context", "rm", "lab"]).await?;
        ensure!(!dockctl.ok(&["context", "ls"]).await?.contains("lab"));
        ensure!(dockctl.ok(&["whoami"]).await?.contains(&name), "the one in use stays");
        Ok(())
    });
}

#[test]
fn a_lost_password_of_the_admin_is_replaced_where_the_controllers_data_are() {
    scenario(async |world| {
        let mut controller = world.controller().await?;
        let before = controller.dockctl().await?;
        let data_dir = controller.data_dir.clone();
        let reset = || -> anyhow::Result<_> {
            let mut command = world.binary("dockctl-controller")?;
            command.args(["reset-admin", "--data-dir"]).arg(&data_dir);
            Ok(command.output()?)
        };
        let running = reset()?;
        let told = String::from_utf8(running.stderr)?;
        ensure!(!running.status.success() && told.contains("stop it first"), "{told}");

        controller.terminate().await?;
        let done = reset()?;
        let password = String::from_utf8(done.stdout)?;
        ensure!(done.status.success() && password.trim().len() == 20, "{password:?}");
        controller.start_again().await?;
        let admin = controller.dockctl_as("admin", password.trim()).await?;
        ensure!(admin.ok(&["whoami"]).await?.starts_with("admin (admin)"));
        ensure!(before.run(&["whoami"]).await?.code == 3, "the logins from before have ended");
        Ok(())
    });
}
