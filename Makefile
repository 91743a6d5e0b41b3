# What people type. The scripts in deploy/scripts do the work and say what they do; each runs alone too.
.PHONY: help demo test chaos lint bench bench-fleet soak fuzz build fmt clean-demo
SCRIPTS := deploy/scripts
# The files of tests/tests whose scenarios have a small count in `make test` and a full one in `make chaos`.
CHAOS := controller_kill network clock engine_faults disk hang_ups docker_api cp port_forward images build memory

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: ## A fleet of two hosts on this machine, shown and taken down again.
	@$(SCRIPTS)/demo.sh

test: ## Every test; ARGS go to cargo nextest run, for example ARGS=join.
	@$(SCRIPTS)/need.sh test
	@$(SCRIPTS)/tools.sh cargo-nextest grpcurl docker-py compose-5 node clients
	@$(SCRIPTS)/with-engine.sh $(SCRIPTS)/test.sh $(ARGS)

chaos: ## The faults of the link and the daemons in full count, about an hour; CHAOS=network is one file.
	@$(SCRIPTS)/need.sh test
	@$(SCRIPTS)/tools.sh cargo-nextest docker-py compose-5
	@$(SCRIPTS)/with-engine.sh env DOCKCTL_FULL=1 $(SCRIPTS)/test.sh $(CHAOS:%=--test %)

lint: ## Formatting, clippy, buf, shellcheck, systemd units, dependencies' licences and sources.
	@$(SCRIPTS)/need.sh lint
	@$(SCRIPTS)/tools.sh buf cargo-deny
	@$(SCRIPTS)/lint.sh

bench: ## The benchmarks: ratios against the engine's own socket; ARGS go to dockctl-bench.
	@$(SCRIPTS)/bench.sh $(ARGS)

bench-fleet: ## Ten thousand simulated agents at one controller; ARGS go to dockctl-bench fleet.
	@$(SCRIPTS)/bench-fleet.sh $(ARGS)

soak: ## Half an hour of all that happens in a fleet, 1,000 simulated agents: memory and open files stay flat.
	@$(SCRIPTS)/bench-fleet.sh --agents 1000 --soak 30 $(ARGS)

fuzz: ## Fuzz what reads bytes from outside; ARGS: seconds for each target (60), then targets.
	@$(SCRIPTS)/tools.sh cargo-fuzz
	@$(SCRIPTS)/fuzz.sh $(ARGS)

build: ## The three programs, optimised, in target/release.
	@$(SCRIPTS)/need.sh build
	@cargo build --release -p dockctl-controller -p dockctl-agent -p dockctl --bins

fmt: ## Format the Rust sources.
	@cargo fmt --all

clean-demo: ## Stop engines that an interrupted demo or test left, and remove their data.
	@$(SCRIPTS)/engine.sh stop web-2
	@$(SCRIPTS)/engine.sh stop
	@rm -rf target/dockerd target/e2e-failed
