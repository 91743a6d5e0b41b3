//! Logins with a real OpenID provider: a page in a browser, and dockctl with a browser elsewhere.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use dockctl_api::{error::reason_of, v1::FinishOidcLoginRequest};
use dockctl_tests::{Controller, Dockctl, LONG, Process, World, await_until, scenario};
use serde_json::{Value, json};

const PROVIDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/oidc");
const SECRET: &str = "a secret of the client";

/// A provider, and a controller that its people may log in to.
struct Fleet<'w> {
    world: &'w World,
    controller: Controller<'w>,
    people: PathBuf,
    dir: PathBuf,
    _provider: Process,
}

impl<'w> Fleet<'w> {
    /// The provider listens at an address that no other scenario has.
    async fn start(world: &'w World, address: &str, arguments: &[&str]) -> Result<Self> {
        let dir = world.dir("oidc")?;
        let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/clients/oidc/node_modules");
        std::os::unix::fs::symlink(tools, dir.join("node_modules"))?;
        for file in ["provider.js", "drive.js", "package.json"] {
            fs::copy(format!("{PROVIDER}/{file}"), dir.join(file))?;
        }
        let (people, secret) = (dir.join("people.json"), dir.join("secret"));
        fs::write(&secret, format!("{SECRET}\n"))?;
        let issuer = format!("http://{address}");
        let secret = secret.display().to_string();
        let oidc = ["--oidc-issuer", &issuer, "--oidc-client-id", "dockctl"];
        let all = [&oidc[..], &["--oidc-client-secret-file", &secret], arguments].concat();
        let controller = world.controller_with(&all, "127.0.0.1:0").await?;

        let mut command = Command::new("node");
        command
            .args(["provider.js", &issuer])
            .arg(&people)
            .arg(page(controller.api))
            .current_dir(&dir)
            .env("CLIENT_SECRET", SECRET);
        let provider = Process::spawn("provider", command, world.logs())?;
        ensure!(provider.wait_for_lines(1).await? == b"ready\n");
        Ok(Self { world, controller, people, dir, _provider: provider })
    }

    /// Whom the provider knows, from the next login on.
    fn people(&self, people: &Value) -> Result<()> {
        Ok(fs::write(&self.people, people.to_string())?)
    }

    /// Does in a browser what a person does, and gives what he reads at the end.
    async fn browse(&self, address: &str, subject: &str, answer: &str) -> Result<String> {
        let mut command = Command::new("node");
        command
            .args(["drive.js", address, subject, answer])
            .current_dir(&self.dir)
            .env("DOCKCTL_CA_FILE", self.controller.data_dir.join("ca.crt"))
            .env("HOME", self.world.dir("home")?);
        let mut browser = Process::spawn("browser", command, self.world.logs())?;
        let code = browser.exit_code().await?;
        ensure!(code == 0, "it ended with {code}: {}", browser.tail());
        Ok(String::from_utf8(browser.stdout()?)?)
    }

    /// `dockctl login --oidc`, answered in a browser.
    async fn with_device(&self, subject: &str, answer: &str) -> Result<(Dockctl<'w>, i32, String)> {
        let dockctl = Dockctl::new(self.world)?;
        let url = format!("https://{}", self.controller.api);
        let fingerprint = &self.controller.ca_fingerprint;
        let mut login =
            dockctl.start(&["login", &url, "--oidc", "--ca-fingerprint", fingerprint])?;
        let address = await_until("dockctl to say where to go", LONG, async || {
            let said = login.log()?;
            if !login.is_running()? {
                bail!("it has ended: {said}");
            }
            Ok(said.lines().find_map(|line| line.strip_prefix("or open ")).map(str::to_owned))
        })
        .await?;
        self.browse(&address, subject, answer).await?;
        let code = login.exit_code().await?;
        Ok((dockctl, code, login.log()?))
    }
}

fn page(api: SocketAddr) -> String {
    format!("https://{api}/docs")
}

#[test]
fn a_page_in_a_browser_logs_in_with_an_openid_provider() {
    scenario(async |world| {
        let fleet = Fleet::start(world, "127.83.0.1:8080", &[]).await?;
        fleet.people(
            &json!({"7": {"preferred_username": "Ada"}, "8": {"preferred_username": "admin"}}),
        )?;
        let page = page(fleet.controller.api);
        let printed = fleet.browse(&page, "7", "yes").await?;
        ensure!(printed.starts_with("logged in as ada\n200\n"), "{printed}");
        let refused = fleet.browse(&page, "7", "no").await?;
        ensure!(refused.contains("aborted"), "{refused}");

        // Nobody becomes another user by being called so.
        let taken = fleet.browse(&page, "8", "yes").await?;
        ensure!(taken.contains("another user is called \"admin\""), "{taken}");

        let admin = fleet.controller.dockctl().await?;
        let users = admin.json(&["users", "ls"]).await?;
        let names: Vec<_> =
            users.as_array().context("no list")?.iter().map(|u| &u["name"]).collect();
        ensure!(names == ["ada", "admin"], "{users}");
        ensure!(users[0]["oidc_subject"] == "http://127.83.0.1:8080 7", "{users}");
        ensure!(users[0]["role"] == "ROLE_NONE", "{users}");
        // There is no password that would be hers.
        let url = format!("https://{}", fleet.controller.api);
        let login = ["login", &url, "--username", "ada", "--password-stdin", "--context", "ada"];
        let refused = admin.run_with_input(&login, "any").await?.failed(3)?;
        ensure!(refused.contains("wrong user name or password"), "{refused}");

        // A code that the provider never gave.
        let request = FinishOidcLoginRequest {
            redirect_uri: page.clone(),
            code: "guessed".to_owned(),
            code_verifier: "v".repeat(43),
        };
        let mut auth = fleet.controller.anonymous().await?.auth();
        let forged = auth.finish_oidc_login(request.clone()).await.err().context("it was taken")?;
        ensure!(reason_of(&forged).as_deref() == Some("OIDC_REFUSED"), "{forged}");
        // Nor is a browser sent to a stranger's page.
        let strange =
            FinishOidcLoginRequest { redirect_uri: "https://evil.example".into(), ..request };
        let strange = auth.finish_oidc_login(strange).await.err().context("it was taken")?;
        ensure!(reason_of(&strange).as_deref() == Some("BAD_FIELD"), "{strange}");
        let audit = admin.ok(&["audit", "ls"]).await?;
        let logins: Vec<_> = audit.lines().filter(|l| l.contains("FinishOidcLogin")).collect();
        ensure!(logins.len() == 4, "{audit}");
        ensure!(logins.iter().filter(|l| l.contains("failed")).count() == 3, "{audit}");
        let done = logins.iter().find(|l| l.contains("done")).context(audit.clone())?;
        ensure!(done.contains(" ada ") && done.contains("127.83.0.1:8080 7\" new"), "{audit}");
        Ok(())
    });
}

#[test]
fn dockctl_logs_in_with_a_browser_elsewhere_and_the_providers_groups_give_roles() {
    scenario(async |world| {
        let roles = ["--oidc-role", "ops=operator", "--oidc-role", "boss=admin"];
        let fleet = Fleet::start(world, "127.83.0.2:8080", &roles).await?;
        fleet.people(&json!({"7": {"preferred_username": "ada", "groups": ["ops", "other"]}}))?;
        let (ada, code, said) = fleet.with_device("7", "yes").await?;
        ensure!(code == 0 && said.contains("as ada"), "{said}");
        ensure!(ada.ok(&["whoami"]).await?.starts_with("ada (operator)"));
        ensure!(ada.ok(&["ps"]).await?.starts_with("HOST"), "no list");

        let admin = fleet.controller.dockctl().await?;
        let audit = admin.ok(&["audit", "ls", "--by", "ada"]).await?;
        let login = audit.lines().find(|l| l.contains("LoginWithDevice")).context(audit.clone())?;
        ensure!(login.contains("done") && login.contains("role=ROLE_OPERATOR"), "{audit}");

        let refused = admin.run(&["users", "revoke", "ada"]).await?.failed(1)?;
        ensure!(refused.contains("comes from groups of the OpenID provider"), "{refused}");

        let (nobody, code, said) = fleet.with_device("7", "no").await?;
        ensure!(code == 3 && said.contains("access_denied"), "{code}: {said}");
        ensure!(nobody.run(&["whoami"]).await?.code == 3);

        // Who leaves the group loses the role with his next login, in the older one too.
        fleet.people(&json!({"7": {"preferred_username": "ada", "groups": []}}))?;
        let (again, code, said) = fleet.with_device("7", "yes").await?;
        ensure!(code == 0, "{said}");
        ensure!(again.ok(&["whoami"]).await?.starts_with("ada (none)"));
        ensure!(ada.run(&["ps"]).await?.code == 3);
        Ok(())
    });
}

#[test]
fn a_provider_that_is_not_there_or_not_set_up_is_told_of() {
    scenario(async |world| {
        let issuer = ["--oidc-issuer", "http://127.83.0.3:8080", "--oidc-client-id", "dockctl"];
        let controller = world.controller_with(&issuer, "127.0.0.1:0").await?;
        let login = async |controller: &Controller<'_>| -> Result<_> {
            let url = format!("https://{}", controller.api);
            let login = ["login", &url, "--oidc", "--ca-fingerprint", &controller.ca_fingerprint];
            Dockctl::new(world)?.run(&login).await
        };
        let gone = login(&controller).await?.failed(1)?;
        ensure!(
            gone.contains("the controller cannot ask the OpenID provider: 127.83.0.3:8080"),
            "{gone}"
        );
        let without = world.controller().await?;
        let off = login(&without).await?.failed(1)?;
        ensure!(off.contains("knows no OpenID provider"), "{off}");
        Ok(())
    });
}
