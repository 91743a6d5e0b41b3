//! The columns of `top`: their order, widths and cells, and which go first when there is no room.

use std::cmp::Ordering;

use unicode_width::UnicodeWidthStr;

use super::model::Row;
use crate::output::human;

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Host,
    Name,
    State,
    Cpu,
    Memory,
    Net,
    Block,
    Pids,
    Image,
}

/// Spaces between two columns.
pub(super) const GAP: usize = 2;
/// The widest that a host's name may make its column, the narrowest of NAME and IMAGE, and the widest
/// that NAME grows to before IMAGE gets the rest.
const HOST: std::ops::RangeInclusive<usize> = 4..=16;
const NAME: usize = 16;
const IMAGE: usize = 12;
const LONG_NAME: usize = 48;

impl Column {
    /// All, from left to right.
    pub(super) const ALL: [Self; 9] = [
        Self::Host,
        Self::Name,
        Self::State,
        Self::Cpu,
        Self::Memory,
        Self::Net,
        Self::Block,
        Self::Pids,
        Self::Image,
    ];

    /// All in the order in which they get room.
    const BY_NEED: [Self; 9] = [
        Self::Name,
        Self::Cpu,
        Self::Memory,
        Self::Host,
        Self::State,
        Self::Net,
        Self::Pids,
        Self::Block,
        Self::Image,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Host => "HOST",
            Self::Name => "NAME",
            Self::State => "STATE",
            Self::Cpu => "CPU %",
            Self::Memory => "MEM",
            Self::Net => "NET I/O",
            Self::Block => "BLOCK I/O",
            Self::Pids => "PIDS",
            Self::Image => "IMAGE",
        }
    }

    /// The next one to the right or left, round and round.
    pub(super) fn next(self, by: isize) -> Self {
        let count = Self::ALL.len() as isize;
        let at = Self::ALL.iter().position(|c| *c == self).unwrap_or(0) as isize;
        let next = (at + by).rem_euclid(count);
        Self::ALL[usize::try_from(next).unwrap_or(0)]
    }

    pub(super) fn is_right(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory | Self::Pids)
    }

    /// Texts from a to z; numbers from the largest, which is what people look for.
    pub(super) fn order(self, a: &Row, b: &Row) -> Ordering {
        let number = |row: &Row| {
            let usage = row.usage.unwrap_or_default();
            match self {
                Self::Cpu => usage.cpu,
                Self::Memory => usage.memory as f64,
                Self::Net => usage.net.0 as f64 + usage.net.1 as f64,
                Self::Block => usage.block.0 as f64 + usage.block.1 as f64,
                Self::Pids => usage.pids as f64,
                _ => 0.0,
            }
        };
        match self {
            Self::Host => a.agent.cmp(&b.agent),
            Self::Name => a.name.cmp(&b.name),
            Self::State => a.state.cmp(&b.state),
            Self::Image => a.image.cmp(&b.image),
            _ => number(b).total_cmp(&number(a)),
        }
    }

    /// The cell of a row.
    pub(super) fn cell(self, row: &Row) -> String {
        let size = |bytes| human::decimal_size(bytes, 3);
        match (self, &row.usage) {
            (Self::Host, _) => row.agent.clone(),
            (Self::Name, _) => row.name.clone(),
            (Self::State, _) => row.state.clone(),
            (Self::Image, _) => row.image.clone(),
            (_, None) => "-".to_owned(),
            (Self::Cpu, Some(usage)) => format!("{:.2}", usage.cpu),
            (Self::Memory, Some(usage)) => human::binary_size(usage.memory),
            (Self::Net, Some(usage)) => format!("{} / {}", size(usage.net.0), size(usage.net.1)),
            (Self::Block, Some(usage)) => {
                format!("{} / {}", size(usage.block.0), size(usage.block.1))
            }
            (Self::Pids, Some(usage)) => usage.pids.to_string(),
        }
    }

    fn least(self, hosts: usize) -> usize {
        match self {
            Self::Host => hosts.clamp(*HOST.start(), *HOST.end()),
            Self::Name => NAME,
            Self::State => 10,
            Self::Cpu => 7,
            Self::Memory => 9,
            Self::Net | Self::Block => 15,
            Self::Pids => 4,
            Self::Image => IMAGE,
        }
    }
}

/// The columns that have room in a width, with theirs, from left to right.
pub(super) fn layout<'a>(
    width: usize,
    rows: impl Iterator<Item = &'a Row>,
) -> Vec<(Column, usize)> {
    let (hosts, names) = rows.fold((0, 0), |(hosts, names), row| {
        (hosts.max(row.agent.width()), names.max(row.name.width()))
    });
    let mut used = 0;
    let mut chosen: Vec<(Column, usize)> = Vec::new();
    for column in Column::BY_NEED {
        let least = column.least(hosts);
        let gap = if chosen.is_empty() { 0 } else { GAP };
        if used + gap + least > width && !chosen.is_empty() {
            break;
        }
        used += gap + least;
        chosen.push((column, least));
    }
    let mut spare = width.saturating_sub(used);
    let has_image = chosen.iter().any(|(column, _)| *column == Column::Image);
    for (column, width) in &mut chosen {
        let more = match column {
            // The last to be chosen gets all that is left.
            Column::Name if has_image => names.min(LONG_NAME).saturating_sub(*width).min(spare),
            Column::Name | Column::Image => spare,
            _ => 0,
        };
        *width += more;
        spare -= more;
    }
    let place = |c: &Column| Column::ALL.iter().position(|a| a == c);
    chosen.sort_by_key(|(column, _)| place(column));
    chosen
}
