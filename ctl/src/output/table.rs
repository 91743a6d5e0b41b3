//! Tables as docker prints them: columns of aligned text, three spaces apart, no lines. Every cell is
//! cleaned here, so that no name, label or image of a hostile container reaches the terminal as is.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Term, clean};

/// How a cell or row looks on a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    #[default]
    Plain,
    /// Of less weight: old, stopped.
    Dim,
    /// Well.
    Good,
    /// Not well yet, or no longer.
    Warn,
    /// Not well.
    Bad,
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Dim => Some("\x1b[2m"),
            Self::Good => Some("\x1b[32m"),
            Self::Warn => Some("\x1b[33m"),
            Self::Bad => Some("\x1b[31m"),
        }
    }

    /// Text in this style, if colours are wanted.
    pub(crate) fn paint(self, text: &str, color: bool) -> String {
        match self.code().filter(|_| color && !text.is_empty()) {
            Some(code) => format!("{code}{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// A text and its style.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell with a style of its own.
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: clean(text.as_ref()), style }
    }

    /// Changes the cell's style.
    pub(crate) fn style(&mut self, style: Style) {
        self.style = style;
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::Plain)
    }
}

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
    least: Vec<usize>,
    /// The columns that are shortened first on a narrow terminal.
    give_way: Vec<usize>,
}

/// Spaces between two columns, and on a terminal that is too narrow.
const GAP: usize = 3;
const NARROW_GAP: usize = 1;
/// Columns that give way keep this width, any column the second, unless they need less.
const SHORT: usize = 9;
const SHORTEST: usize = 2;

impl Table {
    /// A table with these columns.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(Cell::from).collect()],
            least: vec![0; header.len()],
            give_way: Vec::new(),
        }
    }

    /// A table without a header whose columns are at least this wide: for rows that come one by one.
    pub(crate) fn bare(least: &[usize]) -> Self {
        Self { rows: Vec::new(), least: least.to_vec(), give_way: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Adds a row in one style.
    pub(crate) fn styled_row(&mut self, mut cells: Vec<Cell>, style: Style) {
        cells.iter_mut().for_each(|c| c.style = style);
        self.rows.push(cells);
    }

    /// Says which columns, by their numbers, are shortened first where not all have room.
    pub(crate) fn giving_way(mut self, columns: &[usize]) -> Self {
        self.give_way = columns.to_vec();
        self
    }

    /// The table as it is shown at the other end of stdout: no wider than a terminal, whole elsewhere.
    pub(crate) fn show(&self, term: Term) -> String {
        match term.size() {
            Some((width, _)) => self.fit(term.color(), width),
            None => self.render(term.color()),
        }
    }

    /// The table as text, each row ended by a line feed.
    pub(crate) fn render(&self, color: bool) -> String {
        self.lines(&self.widths(), GAP, color)
    }

    /// The same with no row wider than `width`: cells that have no room end with "…".
    pub(crate) fn fit(&self, color: bool, width: usize) -> String {
        let mut widths = self.widths();
        let gaps = widths.len().saturating_sub(1);
        let room = |gap: usize| width.saturating_sub(gaps * gap);
        let mut gap = GAP;
        if widths.iter().sum::<usize>() > room(gap) {
            // The gaps first, as far as they must, then the columns.
            let needed = widths.iter().sum::<usize>() + gaps * (GAP - 1);
            gap = if needed <= width { GAP - 1 } else { NARROW_GAP };
            level(&mut widths, &self.give_way, SHORT, room(gap));
            let all: Vec<usize> = (0..widths.len()).collect();
            level(&mut widths, &self.give_way, SHORTEST, room(gap));
            level(&mut widths, &all, SHORTEST, room(gap));
        }
        self.lines(&widths, gap, color)
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = self.least.clone();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        widths
    }

    fn lines(&self, widths: &[usize], gap: usize, color: bool) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
                let text = shorten(&cell.text, *width);
                line.push_str(&cell.style.paint(&text, color));
                if i + 1 < row.len() {
                    line.extend(std::iter::repeat_n(' ', width - text.width() + gap));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Takes from the widest of some columns until all columns have room, or these are at their `least`.
fn level(widths: &mut [usize], columns: &[usize], least: usize, room: usize) {
    let mut over = widths.iter().sum::<usize>().saturating_sub(room);
    while over > 0 {
        let widest = columns.iter().copied().filter(|i| widths.get(*i).is_some_and(|w| *w > least));
        let Some(widest) = widest.max_by_key(|i| widths[*i]) else { return };
        widths[widest] -= 1;
        over -= 1;
    }
}

/// A text that is at most this wide.
pub(crate) fn shorten(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        short.push(c);
    }
    if width > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_clean() {
        let mut table = Table::new(&["HOST", "NAME"]);
        table.row(vec!["web-1".into(), "a\x1b[31mb".into()]);
        table.row(vec!["日本".into(), "c".into()]);
        assert_eq!(table.render(false), "HOST    NAME\nweb-1   ab\n日本    c\n");
    }

    #[test]
    fn a_table_is_never_wider_than_the_terminal() {
        let mut table = Table::new(&["HOST", "STATE", "NOTE"]).giving_way(&[2]);
        table.row(vec!["web-1".into(), "offline".into(), "no heartbeat for a long time".into()]);
        table.row(vec!["日本日本".into(), "connected".into(), "".into()]);
        let wide = "HOST       STATE       NOTE\nweb-1      offline     no heartbeat for a long time\n\
                    日本日本   connected\n";
        assert_eq!(table.fit(false, 80), wide);
        assert_eq!(
            table.fit(false, 34),
            "HOST     STATE     NOTE\nweb-1    offline   no heartbeat f…\n日本日本 connected\n"
        );
        for width in 12..80 {
            for line in table.fit(false, width).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
        assert_eq!(shorten("日本", 3), "日…");
        assert_eq!(shorten("ab", 0), "");
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let mut table = Table::new(&["A", "B"]);
        table.styled_row(vec!["x".into(), "y".into()], Style::Dim);
        assert_eq!(table.render(true), "A   B\n\x1b[2mx\x1b[0m   \x1b[2my\x1b[0m\n");
    }
}
