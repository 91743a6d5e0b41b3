//! A login in the keyring of a real desktop session: the Secret Service of gnome-keyring on a D-Bus of its own.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use dockctl_tests::{ADMIN_PASSWORD, Dockctl, LONG, Process, World, await_until, scenario};

/// A session with a keyring that is open, and dockctl in it.
struct Desktop<'w> {
    dockctl: Dockctl<'w>,
    bus: String,
    _keyring: Process,
    _bus: Process,
}

impl<'w> Desktop<'w> {
    async fn start(world: &'w World) -> Result<Self> {
        let home = world.dir("desktop")?;
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--print-address"]);
        let bus_process = Process::spawn("bus", command, world.logs())?;
        let bus = String::from_utf8(bus_process.wait_for_lines(1).await?)?.trim().to_owned();
        let password = home.join("password");
        fs::write(&password, "pw")?;
        let mut command = Command::new("gnome-keyring-daemon");
        command
            .args(["--foreground", "--unlock", "--components=secrets"])
            .env("DBUS_SESSION_BUS_ADDRESS", &bus)
            .envs([("HOME", &home), ("XDG_RUNTIME_DIR", &home), ("XDG_DATA_HOME", &home)])
            .stdin(fs::File::open(password)?);
        let keyring = Process::spawn_with_input("keyring", command, world.logs())?;
        let mut dockctl = Dockctl::new(world)?;
        dockctl.env.push(("DBUS_SESSION_BUS_ADDRESS".to_owned(), bus.clone()));
        let desktop = Self { dockctl, bus, _keyring: keyring, _bus: bus_process };
        await_until("the keyring", LONG, async || Ok(desktop.secrets().is_ok().then_some(())))
            .await?;
        Ok(desktop)
    }

    /// What the keyring holds of dockctl's, asked by another program.
    fn secrets(&self) -> Result<String> {
        let mut command = Command::new("secret-tool");
        command.args(["search", "--all", "--unlock", "service", "dockctl"]);
        let output = command.env("DBUS_SESSION_BUS_ADDRESS", &self.bus).output()?;
        let (told, wrong) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        ensure!(output.status.success() && !wrong.contains("not provided"), "{wrong}");
        Ok(told)
    }

    fn file(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.dockctl.config)?)
    }
}

#[test]
fn a_login_is_in_the_keyring_and_not_in_the_file_until_it_ends() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let desktop = Desktop::start(world).await?;
        let dockctl = &desktop.dockctl;
        let mut elsewhere = Dockctl::new(world)?;
        elsewhere.config.clone_from(&dockctl.config);
        let url = format!("https://{}", controller.api);
        let fingerprint = &controller.ca_fingerprint;
        let login = ["login", &url, "--username", "admin", "--password-stdin", "--ca-fingerprint"];
        let login = [&login[..], &[fingerprint]].concat();
        let said = dockctl.run_with_input(&login, ADMIN_PASSWORD).await?;
        ensure!(said.code == 0 && said.stderr.contains("the system's keyring"), "{said:?}");
        let file = desktop.file()?;
        ensure!(file.contains("username = \"admin\"") && !file.contains("eyJ"), "{file}");
        let first = desktop.secrets()?;
        ensure!(first.contains("eyJ"), "no token: {first}");
        ensure!(dockctl.ok(&["whoami"]).await?.starts_with("admin"));

        // Elsewhere the login is told of, and not there.
        let locked = elsewhere.run(&["whoami"]).await?.failed(1)?;
        ensure!(locked.contains("keyring") && locked.contains("--no-keyring"), "{locked}");

        // A second login in its place leaves no entry behind; nor does its end.
        dockctl.run_with_input(&login, ADMIN_PASSWORD).await?.done()?;
        let second = desktop.secrets()?;
        ensure!(second != first && second.matches("secret = ").count() == 1, "{second}");
        dockctl.run(&["logout"]).await?.done()?;
        ensure!(desktop.secrets()?.is_empty());
        ensure!(dockctl.run(&["whoami"]).await?.code == 3);

        // The file is there for those who want it.
        let in_file = [&login[..], &["--no-keyring"]].concat();
        dockctl.run_with_input(&in_file, ADMIN_PASSWORD).await?.done()?;
        ensure!(desktop.file()?.contains("eyJ") && desktop.secrets()?.is_empty());
        ensure!(elsewhere.ok(&["whoami"]).await?.starts_with("admin"));
        Ok(())
    });
}
