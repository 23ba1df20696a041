//! Medians and quartiles.

/// The middle of many values, and how far they lie around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// A quarter of the values are below it.
    pub(crate) low: f64,
    pub(crate) median: f64,
    /// A quarter of the values are above it.
    pub(crate) high: f64,
}

impl Spread {
    /// Sorts the values; there has to be one at least.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self {
            low: quantile(&values, 1),
            median: quantile(&values, 2),
            high: quantile(&values, 3),
        }
    }
}

/// So many quarters of the way through sorted values; between two of them, in proportion.
fn quantile(sorted: &[f64], quarters: usize) -> f64 {
    let last = sorted.len() - 1;
    let (below, rest) = (last * quarters / 4, last * quarters % 4);
    let above = (below + 1).min(last);
    let part = [0.0, 0.25, 0.5, 0.75][rest];
    sorted[below] + (sorted[above] - sorted[below]) * part
}
