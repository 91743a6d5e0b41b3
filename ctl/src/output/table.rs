//! Tables as docker prints them: columns of aligned text, three spaces apart, no lines. Every cell is
//! cleaned here, so that no name, label or image of a hostile container reaches the terminal as is.

use unicode_width::UnicodeWidthStr;

use super::clean;

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
}

/// Spaces between two columns.
const GAP: usize = 3;

impl Table {
    /// A table with these columns.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(Cell::from).collect()], least: vec![0; header.len()] }
    }

    /// A table without a header whose columns are at least this wide: for rows that come one by one.
    pub(crate) fn bare(least: &[usize]) -> Self {
        Self { rows: Vec::new(), least: least.to_vec() }
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

    /// The table as text, each row ended by a line feed.
    pub(crate) fn render(&self, color: bool) -> String {
        let mut widths = self.least.clone();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line.push_str(&cell.style.paint(&cell.text, color));
                if i + 1 < row.len() {
                    line.extend(std::iter::repeat_n(' ', width - cell.text.width() + GAP));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
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
    fn colours_do_not_count_as_width() {
        let mut table = Table::new(&["A", "B"]);
        table.styled_row(vec!["x".into(), "y".into()], Style::Dim);
        assert_eq!(table.render(true), "A   B\n\x1b[2mx\x1b[0m   \x1b[2my\x1b[0m\n");
    }
}
