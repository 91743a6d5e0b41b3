//! A real agent, by default beside the engine that the tests use.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};
use dockctl_api::v1::{Agent as Record, AgentState, CreateJoinTokenRequest, GetAgentRequest};
use serde::Deserialize;

use crate::{
    cli::Dockctl,
    controller::Controller,
    docker::{Docker, docker_host},
    netns::Netns,
    process::Process,
    tcp_proxy::TcpProxy,
    wait::{LONG, await_until},
    world::{World, binary, clean_environment},
};

#[derive(Debug, Deserialize)]
struct Ready {
    agent: String,
    id: String,
}

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct AgentSpec {
    /// Its name in the fleet.
    pub name: String,
    /// The controller's address that it dials.
    pub controller: String,
    /// The Docker engine's URL.
    pub docker: String,
    /// Labels that it asks for.
    pub labels: Vec<String>,
    /// The network namespace that it runs in.
    pub netns: Option<String>,
    /// Further variables of its environment.
    pub env: Vec<(String, String)>,
    /// Its state directory.
    pub data_dir: PathBuf,
}

impl AgentSpec {
    /// An agent beside the tests' engine, with an empty state directory.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(world: &World, controller: &Controller<'_>, name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            controller: controller.agents.to_string(),
            docker: docker_host(),
            labels: Vec::new(),
            netns: None,
            env: Vec::new(),
            data_dir: world.dir(name)?,
        })
    }

    /// Runs it in a network namespace.
    pub fn inside(mut self, netns: &Netns) -> Self {
        self.netns = Some(netns.name().to_owned());
        self
    }

    /// `dockctl-agent join` with that token; not started.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn join_command(&self, token: &str) -> Result<Command> {
        let mut command = self.command()?;
        command.args(["join", &self.controller, "--ready-json", "--token", token]);
        command.args(["--name", &self.name, "--docker", &self.docker, "--data-dir"]);
        command.arg(&self.data_dir);
        for label in &self.labels {
            command.args(["--label", label]);
        }
        Ok(command)
    }

    /// `dockctl-agent run`, as at boot; not started.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn run_command(&self) -> Result<Command> {
        let mut command = self.command()?;
        command.args(["run", "--ready-json", "--docker", &self.docker, "--data-dir"]);
        command.arg(&self.data_dir);
        Ok(command)
    }

    fn command(&self) -> Result<Command> {
        let agent = binary("dockctl-agent")?;
        let mut command = match &self.netns {
            None => Command::new(agent),
            Some(netns) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", netns]).arg(agent);
                command
            }
        };
        clean_environment(&mut command);
        // The agent is told its engine by flag; what the tests themselves use is not its concern.
        command.env_remove("DOCKER_HOST").envs(self.env.iter().cloned());
        Ok(command)
    }
}

/// An agent that has joined.
#[derive(Debug)]
pub struct Agent<'w> {
    world: &'w World,
    /// The running program.
    pub process: Process,
    /// What it was started with.
    pub spec: AgentSpec,
    /// Its id in the fleet.
    pub id: String,
}

impl World {
    /// Makes a token, lets an agent join beside the tests' engine, and waits until it is connected.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn agent(&self, controller: &Controller<'_>, name: &str) -> Result<Agent<'_>> {
        self.join(controller, AgentSpec::new(self, controller, name)?).await
    }

    /// What most scenarios begin with: a controller, one agent beside the tests' engine, that engine, and
    /// dockctl, logged in as `admin`.
    ///
    /// # Errors
    /// When one of them does not become ready.
    pub async fn one_host(
        &self,
        name: &str,
    ) -> Result<(Controller<'_>, Agent<'_>, Docker, Dockctl<'_>)> {
        let controller = self.controller().await?;
        let agent = self.agent(&controller, name).await?;
        let dockctl = controller.dockctl().await?;
        Ok((controller, agent, self.docker(), dockctl))
    }

    /// Lets an agent join beside the engine at that URL.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn agent_at(
        &self,
        controller: &Controller<'_>,
        name: &str,
        docker: &str,
    ) -> Result<Agent<'_>> {
        let spec = AgentSpec::new(self, controller, name)?;
        self.join(controller, AgentSpec { docker: docker.to_owned(), ..spec }).await
    }

    /// An agent whose link can be cut, stalled and refused.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn agent_behind_proxy(
        &self,
        controller: &Controller<'_>,
        name: &str,
    ) -> Result<(TcpProxy, Agent<'_>)> {
        let proxy = TcpProxy::start(controller.agents).await?;
        let spec = AgentSpec::new(self, controller, name)?;
        let spec = AgentSpec { controller: proxy.address().to_string(), ..spec };
        Ok((proxy, self.join(controller, spec).await?))
    }

    /// The same with an agent of one's own making.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn join(&self, controller: &Controller<'_>, spec: AgentSpec) -> Result<Agent<'_>> {
        let token = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
        let process = Process::spawn(&spec.name, spec.join_command(&token)?, self.logs())?;
        Agent::connected(self, process, spec).await
    }
}

impl<'w> Agent<'w> {
    async fn connected(world: &'w World, mut process: Process, spec: AgentSpec) -> Result<Self> {
        let ready: Ready = process.ready().await?;
        anyhow::ensure!(ready.agent == spec.name, "it is called {}", ready.agent);
        Ok(Self { world, process, spec, id: ready.id })
    }

    /// Starts it again as at boot, after it has ended, and waits until it is connected as itself.
    ///
    /// # Errors
    /// When it does not become ready, or comes back as another.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process =
            Process::spawn(&self.spec.name, self.spec.run_command()?, self.world.logs())?;
        let ready: Ready = self.process.ready().await?;
        anyhow::ensure!(ready.id == self.id, "it came back as {} and was {}", ready.id, self.id);
        Ok(())
    }
}

impl Controller<'_> {
    /// What the controller knows of an agent.
    ///
    /// # Errors
    /// When it knows none of that name or id.
    pub async fn agent_record(&self, agent: &str) -> Result<Record> {
        let request = GetAgentRequest { agent: agent.to_owned() };
        let response = self.admin().await?.agents().get_agent(request).await?;
        response.into_inner().agent.context("an empty GetAgentResponse")
    }

    /// Waits until the controller sees an agent in a state, and gives its record.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn await_state(&self, agent: &str, state: AgentState) -> Result<Record> {
        let mut api = self.admin().await?.agents();
        await_until(&format!("{agent} to be {state:?}"), LONG, async || {
            let request = GetAgentRequest { agent: agent.to_owned() };
            let record = api.get_agent(request).await?.into_inner().agent;
            let record = record.context("an empty GetAgentResponse")?;
            match record.state() {
                now if now == state => Ok(Some(record)),
                now => anyhow::bail!("it is {now:?}: {:?}", record.cause),
            }
        })
        .await
    }
}
