//! How `top` looks: a head line, the table, the log of one container where it is wanted, and a line of
//! keys. Draws what the model holds and changes nothing of it but the height of a page.

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};
use unicode_width::UnicodeWidthStr;

use super::{
    columns::{self, Column, GAP},
    model::{Key, Mode, Model, Row},
};
use crate::output::{human, table::shorten};

/// The keys, the most needed first: a narrow window shows as many as it has room for.
const KEYS: [(&str, &str); 9] = [
    ("q", "quit"),
    ("/", "filter"),
    ("<>", "sort"),
    ("r", "reverse"),
    ("a", "all/running"),
    ("l", "logs"),
    ("e", "shell"),
    ("s", "stop"),
    ("1-9", "column"),
];

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, colors: bool) {
    let area = frame.area();
    let paint = Paint { colors };
    let buffer = frame.buffer_mut();
    if area.height < 4 || area.width < 10 {
        return; // nothing can be read there
    }
    let log = if model.log.is_some() { area.height / 2 } else { 0 };
    let table = Rect { y: 1, height: area.height - 2 - log, ..area };
    head(buffer, area, model, paint);
    self::table(buffer, table, model, paint);
    if log > 0 {
        let at = Rect { y: table.y + table.height, height: log, ..area };
        self::log(buffer, at, model, paint);
    }
    bottom(buffer, Rect { y: area.height - 1, height: 1, ..area }, model, paint);
}

/// The styles, or none of the colours where they are not wanted.
#[derive(Clone, Copy)]
struct Paint {
    colors: bool,
}

impl Paint {
    fn color(self, color: Color) -> Style {
        if self.colors { Style::new().fg(color) } else { Style::new() }
    }

    fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn state(self, state: &str) -> Style {
        match state {
            "running" => self.color(Color::Green),
            "paused" | "restarting" | "removing" => self.color(Color::Yellow),
            "dead" => self.color(Color::Red),
            _ => Style::new(),
        }
    }
}

fn head(buffer: &mut Buffer, area: Rect, model: &Model, paint: Paint) {
    let (hosts, away, up, all) = model.counts();
    let (cpu, memory) = model.totals();
    let away = if away > 0 { format!(" ({away} away)") } else { String::new() };
    let filter = match (&model.mode, model.filter.as_str()) {
        (Mode::Filter, text) => format!("   filter: {text}_"),
        (_, "") => String::new(),
        (_, text) => format!("   filter: {text}"),
    };
    let text = format!(
        "dockctl top   hosts {hosts}{away}   running {up} of {all}{filter}   cpu {cpu:.1} %   mem {}",
        human::binary_size(memory)
    );
    put(buffer, area.x, area.y, area.width.into(), &text, paint.bold());
}

fn table(buffer: &mut Buffer, area: Rect, model: &mut Model, paint: Paint) {
    let room = usize::from(area.height).saturating_sub(1);
    model.page = room;
    let count = model.order().len();
    let cursor = model.cursor();
    // The page that the cursor is on, so that rows do not move under it.
    let first = match room {
        0 => 0,
        room => (cursor / room * room).min(count.saturating_sub(room)),
    };
    let keys: Vec<Key> = model.order().iter().skip(first).take(room).cloned().collect();
    let rows: Vec<(&Key, &Row)> =
        keys.iter().filter_map(|key| Some((key, model.row(key)?))).collect();
    let layout = columns::layout(area.width.into(), rows.iter().map(|(_, row)| *row));

    let mark = if model.reversed { "▲" } else { "▼" };
    let title = |column: Column| match column == model.sort {
        true => format!("{}{mark}", column.title()),
        false => column.title().to_owned(),
    };
    line(buffer, area, 0, &layout, |column| {
        let style = if column == model.sort { paint.color(Color::Cyan) } else { Style::new() };
        (title(column), style.patch(paint.bold()))
    });
    for (n, (key, row)) in rows.iter().enumerate() {
        let stale = model.is_stale(key);
        line(buffer, area, n + 1, &layout, |column| {
            let style = match column {
                _ if stale => Style::new().add_modifier(Modifier::DIM),
                Column::State => paint.state(&row.state),
                _ => Style::new(),
            };
            (column.cell(row), style)
        });
        if first + n == cursor {
            let y = area.y + u16::try_from(n + 1).unwrap_or(u16::MAX);
            let at = Rect { y, height: 1, ..area };
            buffer.set_style(at, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    if rows.is_empty() && room > 0 {
        let text = match model.counts().3 {
            0 => "no containers yet",
            _ => "no container fits: Esc clears the filter, a shows stopped ones",
        };
        put(buffer, area.x, area.y + 1, area.width.into(), text, Style::new());
    }
}

/// One line of the table.
fn line(
    buffer: &mut Buffer,
    area: Rect,
    n: usize,
    layout: &[(Column, usize)],
    cell: impl Fn(Column) -> (String, Style),
) {
    let y = area.y.saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
    let mut x = usize::from(area.x);
    for (column, width) in layout {
        let (text, style) = cell(*column);
        let text = shorten(&text, *width);
        let at = if column.is_right() { x + width - text.width() } else { x };
        put(buffer, u16::try_from(at).unwrap_or(u16::MAX), y, *width, &text, style);
        x += width + GAP;
    }
}

fn log(buffer: &mut Buffer, area: Rect, model: &Model, paint: Paint) {
    let Some(log) = &model.log else { return };
    let title = format!("── log of {} (Esc closes it) ", log.title);
    let rule = "─".repeat(usize::from(area.width).saturating_sub(title.width()));
    put(buffer, area.x, area.y, area.width.into(), &(title + &rule), paint.color(Color::Cyan));
    let room = usize::from(area.height).saturating_sub(1);
    let skip = log.lines.len().saturating_sub(room);
    for (line, y) in log.lines.iter().skip(skip).zip(area.y + 1..) {
        put(buffer, area.x, y, area.width.into(), line, Style::new());
    }
}

fn bottom(buffer: &mut Buffer, area: Rect, model: &Model, paint: Paint) {
    let width = usize::from(area.width);
    let strong = paint.color(Color::Yellow).patch(paint.bold());
    if let Mode::Stop(key) = &model.mode {
        let name = model.row(key).map(Row::shown).unwrap_or_default();
        return put(buffer, area.x, area.y, width, &format!("Stop {name}? [y/N]"), strong);
    }
    if model.mode == Mode::Filter {
        let text = "type what host, name, state or image holds   Enter keep   Esc clear";
        return put(buffer, area.x, area.y, width, text, Style::new());
    }
    if !model.message.is_empty() {
        return put(buffer, area.x, area.y, width, &model.message, strong);
    }
    let mut x = 0;
    for (key, does) in KEYS {
        let needed = key.len() + 1 + does.len();
        if x + needed > width {
            break;
        }
        let place = |x: usize| u16::try_from(x).unwrap_or(u16::MAX);
        put(buffer, place(x), area.y, key.len(), key, paint.color(Color::Cyan).patch(paint.bold()));
        put(buffer, place(x + key.len() + 1), area.y, does.len(), does, Style::new());
        x += needed + 2;
    }
}

/// A text in one place, cut to a width.
fn put(buffer: &mut Buffer, x: u16, y: u16, width: usize, text: &str, style: Style) {
    if buffer.area().contains((x, y).into()) {
        buffer.set_stringn(x, y, shorten(text, width), width, style);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::model::tests::fleet, *};

    fn screen(model: &mut Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, true)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    /// Compares with commands/top/snapshots; `BLESS=1` writes them anew.
    fn snapshot(name: &str, text: &str) {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/top/snapshots").join(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        let want = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, want, "{name} has changed; BLESS=1 accepts it");
    }

    #[test]
    fn it_looks_right_at_80_by_24_and_200_by_50() {
        for (width, height) in [(80, 24), (200, 50)] {
            let size = format!("{width}x{height}");
            let mut model = fleet(30);
            snapshot(&format!("{size}.txt"), &screen(&mut model, width, height));
            model.key(crossterm::event::KeyCode::Char('l').into());
            (0..60).for_each(|n| model.log_line(&format!("line {n} of the log\x1b[2J")));
            model.key(crossterm::event::KeyCode::Char('s').into());
            snapshot(&format!("{size}-log-stop.txt"), &screen(&mut model, width, height));
        }
    }

    #[test]
    fn ten_thousand_containers_are_sorted_filtered_and_paged_through() {
        use crossterm::event::KeyCode;

        let mut model = fleet(10_000);
        let key = |model: &mut Model, code: KeyCode| drop(model.key(code.into()));
        let keys = |model: &mut Model, text: &str| {
            text.chars().for_each(|c| drop(model.key(KeyCode::Char(c).into())));
        };
        // Of five, one has ended; of three hosts, web-9 is away and tells nothing.
        let text = screen(&mut model, 80, 24);
        assert!(text.contains("hosts 3 (1 away)   running 8000 of 10000"), "{text}");
        assert_eq!(text.lines().count(), 24);
        assert!(text.lines().nth(2).is_some_and(|row| row.contains("app-9999")), "{text}");
        let order = model.order().to_vec();
        assert_eq!(order.len(), 8_000);
        let cpu = |at: &Key| model.row(at).and_then(|row| row.usage).map(|usage| usage.cpu);
        assert!(order.windows(2).all(|pair| cpu(&pair[0]) >= cpu(&pair[1])));

        // By name, page by page: each is shown once.
        keys(&mut model, "2");
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let text = screen(&mut model, 80, 24);
            assert!(text.lines().all(|line| line.width() <= 80), "{text}");
            let rows = text.lines().skip(2).take(21);
            let names =
                rows.filter_map(|row| row.split_whitespace().find(|w| w.starts_with("app-")));
            seen.extend(names.map(str::to_owned));
            pages += 1;
            let before = model.cursor();
            key(&mut model, KeyCode::PageDown);
            if model.cursor() == before {
                break;
            }
        }
        assert!(
            (8_000_usize.div_ceil(21)..=8_000_usize.div_ceil(21) + 1).contains(&pages),
            "{pages}"
        );
        seen.dedup(); // the last page goes back over rows of the one before
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 8_000);

        keys(&mut model, "/APP-999");
        let text = screen(&mut model, 80, 24);
        assert_eq!(
            model.order().len(),
            9,
            "app-999 and app-9990 to app-9999, of which two have ended"
        );
        assert_eq!(text.lines().filter(|line| line.contains("app-999")).count(), 9, "{text}");
        key(&mut model, KeyCode::Enter);
        keys(&mut model, "a");
        assert_eq!(model.order().len(), 11);
        key(&mut model, KeyCode::Esc);
        assert_eq!(model.order().len(), 10_000);
    }

    #[test]
    fn no_size_breaks_it() {
        let mut model = fleet(5);
        model.key(crossterm::event::KeyCode::Char('l').into());
        for width in [1, 5, 10, 17, 40, 79, 300] {
            for height in [1, 3, 4, 5, 8, 100] {
                for line in screen(&mut model, width, height).lines() {
                    assert!(line.width() <= usize::from(width));
                }
            }
        }
    }
}
