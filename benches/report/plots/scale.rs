//! Axes: where a value stands, and which values are named.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// An axis with its range and the values that are named on it.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// By powers of ten.
    log: bool,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// From zero to a little above the greatest value.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>, say: fn(f64) -> String) -> Self {
        /// Names on an axis, at most.
        const NAMES: f64 = 6.0;
        let greatest = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max);
        let greatest = if greatest > 0.0 { greatest } else { 1.0 };
        let steps = round_numbers(greatest / 100.0, greatest);
        let step = steps.into_iter().find(|step| greatest / step <= NAMES).unwrap_or(greatest);
        let many = (greatest / step).ceil().max(1.0) as u32;
        let ticks = (0..=many).map(|index| f64::from(index) * step).map(|at| (at, say(at))).collect();
        Self { log: false, from: 0.0, to: f64::from(many) * step, ticks }
    }

    /// From a round number below the least to one above the greatest; what is not above zero has no place.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>, say: fn(f64) -> String) -> Self {
        let (least, greatest) = values
            .into_iter()
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0), |(least, greatest), value| (value.min(least), value.max(greatest)));
        let (least, greatest) = if greatest > 0.0 { (least, greatest) } else { (1.0, 10.0) };
        let round = round_numbers(least, greatest);
        // Over many powers of ten, only these are named.
        let few = round.len() <= 13;
        let is_power = |at: f64| (at.log10() - at.log10().round()).abs() < 1e-9;
        let ticks = round.iter().filter(|at| few || is_power(**at)).map(|at| (*at, say(*at))).collect();
        let (from, to) = (round.first().copied().unwrap_or(1.0), round.last().copied().unwrap_or(10.0));
        Self { log: true, from, to, ticks }
    }

    /// One place for each name, from the top.
    pub(crate) fn names(names: impl IntoIterator<Item = String>) -> Self {
        let ticks: Vec<_> = names.into_iter().enumerate().map(|(index, name)| (-(index as f64) - 0.5, name)).collect();
        Self { log: false, from: -(ticks.len().max(1) as f64), to: 0.0, ticks }
    }

    /// Part of the axis that is before the value.
    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| if self.log { value.max(self.from).log10() } else { value };
        (place(value) - place(self.from)) / (place(self.to) - place(self.from))
    }
}

/// One, two and five times powers of ten: from the last that is not above to the first that is not below.
fn round_numbers(least: f64, greatest: f64) -> Vec<f64> {
    let power = least.log10().floor() as i32;
    let all = (power..).flat_map(|power| [1.0, 2.0, 5.0].map(|times| times * 10f64.powi(power)));
    let mut numbers: Vec<f64> = Vec::new();
    for number in all {
        if number <= least {
            numbers.clear();
        }
        numbers.push(number);
        if number >= greatest && numbers.len() > 1 {
            break;
        }
    }
    numbers
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        first + (self.share(*value) * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        let named = self.ticks.iter().find(|(at, _)| at == value);
        named.map(|(_, name)| name.clone()).unwrap_or_default()
    }
}
