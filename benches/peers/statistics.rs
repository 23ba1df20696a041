//! Medians and quartiles.

/// The median of many values and its quartiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// A quarter of the values are smaller.
    pub(crate) low: f64,
    pub(crate) median: f64,
    /// A quarter of the values are larger.
    pub(crate) high: f64,
}

impl Spread {
    /// Panics if there are no values.
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

/// Returns a quartile of sorted values, interpolated between two of them.
fn quantile(sorted: &[f64], quarters: usize) -> f64 {
    let last = sorted.len() - 1;
    let (below, rest) = (last * quarters / 4, last * quarters % 4);
    let above = (below + 1).min(last);
    let part = [0.0, 0.25, 0.5, 0.75][rest];
    sorted[below] + (sorted[above] - sorted[below]) * part
}
