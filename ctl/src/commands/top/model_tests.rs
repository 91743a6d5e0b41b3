use dockctl_api::v1::{AgentView, Container, Event, StreamStatsResponse};
use prost_types::Timestamp;

use super::*;

fn container(agent: &str, id: &str, name: &str, state: &str) -> Container {
    Container {
        agent: agent.to_owned(),
        id: id.to_owned(),
        name: name.to_owned(),
        image: "nginx:1.29".to_owned(),
        state: state.to_owned(),
        ..Container::default()
    }
}

fn view(agent: &str, stale: bool, known: bool) -> AgentView {
    let as_of = known.then_some(Timestamp { seconds: 1, nanos: 0 });
    AgentView { agent: agent.to_owned(), stale, as_of, ..AgentView::default() }
}

fn sample(agent: &str, id: &str, cpu: f64) -> StreamStatsResponse {
    StreamStatsResponse {
        agent: agent.to_owned(),
        container_id: id.to_owned(),
        cpu_percent: cpu,
        memory_usage: 1 << 20,
        network_received: 1_234_567,
        network_sent: 648,
        block_read: 4096,
        pids: 3,
        ..StreamStatsResponse::default()
    }
}

fn event(agent: &str, id: &str, action: &str) -> News {
    let attributes =
        [("name", "new"), ("image", "busybox")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let event = Event {
        r#type: "container".to_owned(),
        action: action.to_owned(),
        actor_id: id.to_owned(),
        attributes,
        ..Event::default()
    };
    News::Event(agent.to_owned(), event)
}

fn press(model: &mut Model, keys: &str) -> Option<Effect> {
    keys.chars().map(|c| model.key(KeyCode::Char(c).into())).last().flatten()
}

fn names(model: &mut Model) -> Vec<String> {
    let keys = model.order().to_vec();
    keys.iter().map(|key| model.row(key).unwrap().name.clone()).collect()
}

/// A model with as many containers on three hosts, of which web-9 is away.
pub(in super::super) fn fleet(count: usize) -> Model {
    let mut model = Model::new();
    let list = (0..count).map(|n| {
        let agent = ["web-1", "web-2", "web-9"][n % 3];
        let state = ["running", "running", "exited", "running", "paused"][n % 5];
        container(agent, &format!("id{n:03}"), &format!("app-{n:03}\x1b[2J"), state)
    });
    let views = [view("web-1", false, true), view("web-2", false, true), view("web-9", true, true)];
    model.news(News::All(list.collect(), views.to_vec()));
    for n in (0..count).filter(|n| n % 3 != 2) {
        model.sample(sample(["web-1", "web-2"][n % 3], &format!("id{n:03}"), n as f64));
    }
    model
}

#[test]
fn rows_are_sorted_filtered_and_toggled() {
    let mut model = Model::new();
    let list = vec![
        container("web-1", "a", "front", "running"),
        container("web-1", "b", "back", "running"),
        container("db-1", "c", "store", "exited"),
    ];
    model.news(News::All(list, vec![view("web-1", false, true), view("db-1", false, true)]));
    model.sample(sample("web-1", "a", 1.0));
    model.sample(sample("web-1", "b", 5.0));
    assert_eq!(names(&mut model), ["back", "front"], "the busiest first");
    press(&mut model, "r");
    assert_eq!(names(&mut model), ["front", "back"]);
    press(&mut model, "a2");
    assert_eq!(names(&mut model), ["back", "front", "store"]);
    press(&mut model, "2");
    assert_eq!(names(&mut model), ["store", "front", "back"], "the same column turns round");
    press(&mut model, "<");
    assert_eq!(model.sort, Column::Host);
    press(&mut model, "/DB-");
    assert_eq!(names(&mut model), ["store"]);
    model.key(KeyCode::Backspace.into());
    model.key(KeyCode::Enter.into());
    assert_eq!((model.filter.as_str(), &model.mode), ("DB", &Mode::Normal));
    model.key(KeyCode::Esc.into());
    assert_eq!(names(&mut model).len(), 3);
}

#[test]
fn events_change_the_rows() {
    let mut model = Model::new();
    model.news(News::All(vec![container("web-1", "a", "old", "running")], Vec::new()));
    model.sample(sample("web-1", "a", 1.0));
    model.news(event("web-1", "b", "create"));
    model.news(event("web-1", "b", "start"));
    assert_eq!(names(&mut model), ["old", "new"]);
    model.news(event("web-1", "b", "pause"));
    assert_eq!(model.row(&("web-1".to_owned(), "b".to_owned())).unwrap().state, "paused");
    model.news(event("web-1", "a", "rename"));
    assert_eq!(names(&mut model), ["new", "new"]);
    model.news(event("web-1", "a", "die"));
    let a = ("web-1".to_owned(), "a".to_owned());
    assert!(model.row(&a).unwrap().usage.is_none(), "what has ended uses nothing");
    model.sample(sample("web-1", "a", 1.0));
    assert!(model.row(&a).unwrap().usage.is_none(), "a late sample");
    model.news(event("web-1", "b", "destroy"));
    model.news(event("web-1", "b", "exec_create: sh"));
    assert!(names(&mut model).is_empty());
    model.sample(sample("web-1", "unknown", 1.0));
    assert_eq!(model.counts(), (1, 0, 0, 1));
}

#[test]
fn a_host_that_goes_away_is_stale_until_it_is_back() {
    let mut model = Model::new();
    let list =
        vec![container("web-1", "a", "x", "running"), container("web-2", "b", "y", "running")];
    model.news(News::All(list, vec![view("web-1", false, true), view("web-2", false, true)]));
    model.sample(sample("web-1", "a", 1.0));
    model.news(News::Offline("web-1".to_owned()));
    let a = ("web-1".to_owned(), "a".to_owned());
    assert!(model.is_stale(&a) && model.row(&a).unwrap().usage.is_none());
    assert_eq!(names(&mut model), ["x", "y"], "it is still shown");
    // A controller that started anew knows nothing of it.
    let views = vec![view("web-1", true, false), view("web-2", false, true)];
    model.news(News::All(vec![container("web-2", "b", "y", "running")], views));
    assert_eq!(names(&mut model), ["x", "y"]);
    model.news(News::Host("web-1".to_owned(), vec![container("web-1", "c", "z", "running")]));
    assert_eq!(names(&mut model), ["z", "y"]);
    assert!(!model.is_stale(&("web-1".to_owned(), "c".to_owned())));
}

#[test]
fn the_cursor_stays_on_its_container() {
    let mut model = fleet(9);
    press(&mut model, "2j");
    let on = |model: &mut Model| {
        let names = names(model);
        names.get(model.cursor()).cloned()
    };
    assert_eq!(on(&mut model).as_deref(), Some("app-001"));
    press(&mut model, "r");
    assert_eq!(on(&mut model).as_deref(), Some("app-001"));
    model.news(event("web-2", "id001", "destroy"));
    model.key(KeyCode::End.into());
    let last = names(&mut model).len() - 1;
    assert_eq!(model.cursor(), last);
    model.key(KeyCode::PageUp.into());
    model.key(KeyCode::Home.into());
    assert_eq!(model.cursor(), 0);
}

#[test]
fn stopping_asks_first_and_names_the_container_by_id() {
    let mut model = Model::new();
    model.news(News::All(vec![container("web-1", "a", "x", "running")], Vec::new()));
    assert_eq!(press(&mut model, "s"), None);
    assert!(matches!(model.mode, Mode::Stop(_)));
    assert_eq!(press(&mut model, "n"), None);
    assert_eq!(model.mode, Mode::Normal);
    let target = Target { agent: "web-1".to_owned(), container: "a".to_owned() };
    assert_eq!(press(&mut model, "sy"), Some(Effect::Stop(target.clone(), "web-1/x".to_owned())));
    assert_eq!(press(&mut model, "e"), Some(Effect::Shell(target.clone(), "web-1/x".to_owned())));
    assert_eq!(press(&mut model, "l"), Some(Effect::Log(Some(target))));
    assert_eq!(model.key(KeyCode::Esc.into()), Some(Effect::Log(None)));
    press(&mut model, "l");
    assert_eq!(press(&mut model, "q"), Some(Effect::Log(None)), "q leaves the log first");
    model.news(event("web-1", "a", "die"));
    press(&mut model, "a");
    assert_eq!(press(&mut model, "s"), None);
    assert_eq!((press(&mut model, "e"), model.message.is_empty()), (None, false));
    assert_eq!(press(&mut model, "q"), Some(Effect::Quit));
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    press(&mut model, "/");
    assert_eq!(model.key(control_c), Some(Effect::Quit));
}

#[test]
fn a_log_is_bounded() {
    let mut model = fleet(3);
    press(&mut model, "l");
    (0..LOG_LINES + 5).for_each(|n| model.log_line(&format!("{n} {}", "x".repeat(2 * LOG_WIDTH))));
    let log = model.log.as_ref().unwrap();
    assert_eq!(log.lines.len(), LOG_LINES);
    assert!(log.lines.iter().all(|line| line.chars().count() <= LOG_WIDTH));
}

#[test]
fn only_what_is_new_is_drawn() {
    let mut model = fleet(3);
    assert!(model.take_dirty());
    assert!(!model.take_dirty());
    model.sample(sample("web-1", "unknown", 1.0));
    assert!(!model.is_dirty());
    model.sample(sample("web-1", "id000", 1.0));
    assert!(model.is_dirty());
}
