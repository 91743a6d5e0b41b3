//! Measuring: series of values, and calls timed in short rounds that alternate between two ways.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::task::JoinSet;

/// What was measured of one thing: one value a round, or one a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// Adds a value.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds the values of another.
    pub(crate) fn extend(&mut self, other: Series) {
        self.0.extend(other.0);
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which a part `q` (0 to 1) of all lie; NaN where there are none.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        sorted.get((last * q).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// The middle value.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The smallest value.
    pub(crate) fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The largest value.
    pub(crate) fn max(&self) -> f64 {
        self.quantile(1.0)
    }
}

impl From<f64> for Series {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

/// Milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Keeps this thread on one processor until dropped.
pub(crate) struct Processor(CpuSet);

impl Processor {
    /// On the first one that it may use.
    pub(crate) fn first() -> Result<Self> {
        Self::keep(|all| all.first().copied())
    }

    /// On the last one that it may use.
    pub(crate) fn last() -> Result<Self> {
        Self::keep(|all| all.last().copied())
    }

    fn keep(choose: impl Fn(&[usize]) -> Option<usize>) -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        let usable: Vec<_> = (0..CpuSet::MAX_CPU).filter(|n| all.is_set(*n)).collect();
        one.set(choose(&usable).context("no processor may be used")?);
        sched_setaffinity(None, &one)?;
        Ok(Self(all))
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// One kind of call on one connection.
pub(crate) trait Caller: Send + 'static {
    /// Makes one call and takes its whole answer.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// Times `calls` calls, one after the other, in milliseconds.
pub(crate) async fn latencies(caller: &mut impl Caller, calls: usize) -> Result<Series> {
    let mut series = Series::default();
    for _ in 0..calls {
        let start = Instant::now();
        caller.call().await?;
        series.push(ms(start.elapsed()));
    }
    Ok(series)
}

/// Alternates between two callers; gives each one's median milliseconds of every round. A first round
/// warms both up and does not count.
pub(crate) async fn alternate_latency(
    rounds: usize,
    calls: usize,
    one: &mut impl Caller,
    other: &mut impl Caller,
) -> Result<(Series, Series)> {
    let mut medians = (Series::default(), Series::default());
    for round in 0..=rounds {
        let one = latencies(one, calls).await?.median();
        let other = latencies(other, calls).await?.median();
        if round > 0 {
            medians.0.push(one);
            medians.1.push(other);
        }
    }
    Ok(medians)
}

/// Alternates between two groups of callers, all of a group at once for `span`; gives calls a second of
/// every round. A first round warms both up and does not count.
pub(crate) async fn alternate_rate<A: Caller, B: Caller>(
    rounds: usize,
    span: Duration,
    one: &mut Vec<A>,
    other: &mut Vec<B>,
) -> Result<(Series, Series)> {
    let mut rates = (Series::default(), Series::default());
    for round in 0..=rounds {
        let one = rate(one, span).await?;
        let other = rate(other, span).await?;
        if round > 0 {
            rates.0.push(one);
            rates.1.push(other);
        }
    }
    Ok(rates)
}

/// Calls a second that all callers together get through, each in a task of its own.
pub(crate) async fn rate<C: Caller>(callers: &mut Vec<C>, span: Duration) -> Result<f64> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut caller in callers.drain(..) {
        tasks.spawn(async move {
            let mut calls = 0_u32;
            while start.elapsed() < span {
                caller.call().await?;
                calls += 1;
            }
            anyhow::Ok((caller, calls))
        });
    }
    let mut calls = 0;
    while let Some(done) = tasks.join_next().await {
        let (caller, made) = done.context("a caller broke off")??;
        callers.push(caller);
        calls += made;
    }
    Ok(f64::from(calls) / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn quantiles() {
        let series = Series((1..=101).rev().map(f64::from).collect());
        assert_eq!((series.min(), series.median(), series.max()), (1.0, 51.0, 101.0));
        assert_eq!(series.quantile(0.99), 100.0);
        assert_eq!(Series::from(3.0).quantile(0.99), 3.0);
        assert!(Series::default().median().is_nan());
    }
}
