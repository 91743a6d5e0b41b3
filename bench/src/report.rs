//! The figures: one line each as they come, and all of them as JSON.

use std::{
    fs,
    path::Path,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::measure::Series;

/// What is hoped for.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// As much, or less.
    AtMost(f64),
    /// As much, or more.
    AtLeast(f64),
    /// More.
    MoreThan(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(goal) => value <= goal,
            Self::AtLeast(goal) => value >= goal,
            Self::MoreThan(goal) => value > goal,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(goal) => format!("≤ {goal}"),
            Self::AtLeast(goal) => format!("≥ {goal}"),
            Self::MoreThan(goal) => format!("> {goal}"),
        }
    }
}

/// How dockctl's value is set against the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Divided by it.
    Ratio,
    /// Less it.
    Added,
    /// As it is.
    Alone,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    name: &'static str,
    unit: &'static str,
    /// What dockctl is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<Base>,
    dockctl: Series,
    /// Of which so much is each process's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    kind: Kind,
    /// The ratio of the medians, what is added to the base's median, or dockctl's own median.
    result: f64,
    goal: Option<Goal>,
    /// None without a goal.
    met: Option<bool>,
}

#[derive(Debug, Clone, Serialize)]
struct Part {
    process: &'static str,
    base: f64,
    dockctl: f64,
}

#[derive(Debug, Clone, Serialize)]
struct Base {
    name: &'static str,
    #[serde(flatten)]
    series: Series,
}

impl Figure {
    /// Says by which factor dockctl's median differs from the base's.
    pub(crate) fn ratio(
        name: &'static str,
        unit: &'static str,
        base: (&'static str, &Series),
        dockctl: &Series,
    ) -> Self {
        let ratio = dockctl.median() / base.1.median();
        Self::new(name, unit, Some(base), dockctl, Kind::Ratio, ratio)
    }

    /// Says what dockctl's median adds to the base's.
    pub(crate) fn added(
        name: &'static str,
        unit: &'static str,
        base: (&'static str, &Series),
        dockctl: &Series,
    ) -> Self {
        let added = dockctl.median() - base.1.median();
        Self::new(name, unit, Some(base), dockctl, Kind::Added, added)
    }

    /// Says dockctl's median, and shows the base beside it.
    pub(crate) fn beside(
        name: &'static str,
        unit: &'static str,
        base: (&'static str, &Series),
        dockctl: &Series,
    ) -> Self {
        Self::new(name, unit, Some(base), dockctl, Kind::Alone, dockctl.median())
    }

    /// Says dockctl's median.
    pub(crate) fn alone(name: &'static str, unit: &'static str, dockctl: &Series) -> Self {
        Self::new(name, unit, None, dockctl, Kind::Alone, dockctl.median())
    }

    fn new(
        name: &'static str,
        unit: &'static str,
        base: Option<(&'static str, &Series)>,
        dockctl: &Series,
        kind: Kind,
        result: f64,
    ) -> Self {
        let base = base.map(|(name, series)| Base { name, series: series.clone() });
        let (dockctl, parts) = (dockctl.clone(), Vec::new());
        Self { name, unit, base, dockctl, parts, kind, result, goal: None, met: None }
    }

    /// Sets what is hoped for.
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.met = Some(goal.is_met(self.result));
        self.goal = Some(goal);
        self
    }

    /// Says of which processes the base's and dockctl's values are the sum.
    pub(crate) fn parts<const N: usize>(
        mut self,
        processes: [&'static str; N],
        base: [f64; N],
        dockctl: [f64; N],
    ) -> Self {
        let parts = processes.into_iter().zip(base).zip(dockctl);
        self.parts =
            parts.map(|((process, base), dockctl)| Part { process, base, dockctl }).collect();
        self
    }

    fn line(&self) -> String {
        let base = self.base.as_ref();
        let base = base.map(|b| format!("{} {}", b.name, range(&b.series))).unwrap_or_default();
        let result = match self.kind {
            Kind::Ratio => format!("× {}", short(self.result)),
            Kind::Added => format!("{:+.2} {}", self.result, self.unit),
            Kind::Alone => format!("{} {}", short(self.result), self.unit),
        };
        let goal = self.goal.map(Goal::text).unwrap_or_default();
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        };
        let dockctl = range(&self.dockctl);
        let (name, unit) = (self.name, self.unit);
        format!("{name:<42} {unit:<8} {base:<33} {dockctl:<26} {result:>12}  {goal:<7} {met}")
            .trim_end()
            .to_owned()
    }
}

/// The median, and from where to where the values go.
fn range(series: &Series) -> String {
    let median = short(series.median());
    match series.len() {
        1 => median,
        _ => format!("{median} [{}–{}]", short(series.min()), short(series.max())),
    }
}

/// Three digits or more.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut series = serializer.serialize_struct("Series", 4)?;
        series.serialize_field("median", &self.median())?;
        series.serialize_field("min", &self.min())?;
        series.serialize_field("max", &self.max())?;
        series.serialize_field("values", &self.len())?;
        series.end()
    }
}

/// All figures of a run, and where they were measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Seconds since 1970.
    measured_at: u64,
    dockctl: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    processors: usize,
    /// Whether the rounds were too short to mean much.
    quick: bool,
    figures: Vec<Figure>,
}

impl Report {
    /// Begins the table; `engine` is the version of what was measured beside.
    pub(crate) fn new(engine: Option<String>, quick: bool) -> Result<Self> {
        let report = Self {
            measured_at: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            dockctl: dockctl_api::VERSION,
            engine,
            processors: thread::available_parallelism()?.get(),
            quick,
            figures: Vec::new(),
        };
        println!(
            "dockctl {}{} on {} processors; medians [smallest–largest]",
            report.dockctl,
            report.engine.as_ref().map(|e| format!(" beside engine {e}")).unwrap_or_default(),
            report.processors
        );
        let head = ["FIGURE", "UNIT", "COMPARED WITH", "DOCKCTL", "RESULT", "GOAL"];
        let [name, unit, base, dockctl, result, goal] = head;
        println!("{name:<42} {unit:<8} {base:<33} {dockctl:<26} {result:>12}  {goal}");
        Ok(report)
    }

    /// Prints and keeps figures.
    pub(crate) fn add(&mut self, figures: Vec<Figure>) {
        for figure in figures {
            println!("{}", figure.line());
            for Part { process, base, dockctl } in &figure.parts {
                let (base, dockctl) = (short(*base), short(*dockctl));
                println!("  {process:<49} {base:<33} {dockctl}");
            }
            self.figures.push(figure);
        }
    }

    /// Prints how many goals are met.
    pub(crate) fn finish(&self) {
        let goals = self.figures.iter().filter(|f| f.goal.is_some()).count();
        let met = self.figures.iter().filter(|f| f.met == Some(true)).count();
        println!("{met} of {goals} goals met");
    }

    /// Writes all as JSON; the file appears whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let unfinished = path.with_added_extension("tmp");
        fs::write(&unfinished, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(fs::rename(&unfinished, path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_say_whether_their_goal_is_met() {
        let (engine, dockctl) = (Series::from(1.3), Series::from(1.7));
        let added = Figure::added("list", "ms", ("engine", &engine), &dockctl);
        assert_eq!(added.clone().goal(Goal::AtMost(0.5)).met, Some(true));
        assert!(
            added.clone().goal(Goal::AtMost(0.1)).line().ends_with("+0.40 ms  ≤ 0.1   NOT MET")
        );
        assert!(added.line().ends_with("+0.40 ms"));
        let ratio = Figure::ratio("list", "1/s", ("engine", &engine), &engine);
        assert_eq!(ratio.clone().goal(Goal::MoreThan(1.0)).met, Some(false));
        assert_eq!(ratio.goal(Goal::AtLeast(1.0)).met, Some(true));
    }

    #[test]
    fn nothing_measured_meets_no_goal() {
        let nothing = Series::default();
        assert_eq!(Figure::alone("x", "ms", &nothing).goal(Goal::AtMost(1.0)).met, Some(false));
    }
}
