//! Measured values.

use std::fmt;
use std::time::Duration;

/// What values are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Time, milliseconds.
    Milliseconds,
    /// Memory or disk, KiB.
    Kibibytes,
    /// A number of things.
    Count,
    /// What a network carries, Mbit/s.
    MegabitsPerSecond,
}

/// Values of the same thing, measured several times.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    unit: Unit,
    values: Vec<f64>,
}

/// Values of different things by name, in the order in which they first came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named(Vec<(String, Samples)>);

/// One value, to be printed.
struct Value(f64, Unit);

impl Samples {
    /// Returns no values yet.
    pub(crate) const fn new(unit: Unit) -> Self {
        Self { unit, values: Vec::new() }
    }

    /// Returns times without a value yet.
    pub(crate) const fn times() -> Self {
        Self::new(Unit::Milliseconds)
    }

    /// Returns the one value of something that was measured once, in KiB.
    pub(crate) fn kibibytes(value: u64) -> Self {
        let mut samples = Self::new(Unit::Kibibytes);
        samples.push_number(value);
        samples
    }

    /// Adds a time.
    pub(crate) fn push(&mut self, time: Duration) {
        self.values.push(time.as_secs_f64() * 1000.0);
    }

    /// Adds a rate: so many bytes in so much time.
    #[expect(clippy::cast_precision_loss, reason = "nothing that is measured here has 53 bits")]
    pub(crate) fn push_rate(&mut self, bytes: u64, time: Duration) {
        self.values.push(bytes as f64 * 8.0 / 1e6 / time.as_secs_f64());
    }

    /// Adds a number of the unit.
    #[expect(clippy::cast_precision_loss, reason = "nothing that is measured here has 53 bits")]
    pub(crate) fn push_number(&mut self, number: u64) {
        self.values.push(number as f64);
    }

    /// Returns how many values there are.
    pub(crate) const fn count(&self) -> usize {
        self.values.len()
    }

    /// Returns the median; of an even number of values, the mean of the middle two. 0 without values.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => 0.0,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// Returns the median as it is printed.
    pub(crate) fn typical(&self) -> impl fmt::Display {
        Value(self.median(), self.unit)
    }

    /// Returns least and largest as they are printed.
    pub(crate) fn spread(&self) -> String {
        match *self.sorted() {
            [] | [_] => "-".to_owned(),
            [least, .., most] => format!("{} … {}", Value(least, self.unit), Value(most, self.unit)),
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl Named {
    /// Adds a time to those of this name.
    pub(crate) fn push(&mut self, name: &str, time: Duration) {
        self.of(name, Unit::Milliseconds).push(time);
    }

    /// Adds a number to those of this name, which are counted so.
    pub(crate) fn push_number(&mut self, name: &str, unit: Unit, number: u64) {
        self.of(name, unit).push_number(number);
    }

    fn of(&mut self, name: &str, unit: Unit) -> &mut Samples {
        let index = self.0.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.0.push((name.to_owned(), Samples::new(unit)));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }
}

impl IntoIterator for Named {
    type Item = (String, Samples);
    type IntoIter = std::vec::IntoIter<(String, Samples)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.1 {
            Unit::Milliseconds => " ms",
            Unit::Kibibytes => " KiB",
            Unit::Count => "",
            Unit::MegabitsPerSecond => " Mbit/s",
        };
        let has_parts = matches!(self.1, Unit::Milliseconds | Unit::MegabitsPerSecond);
        let digits = usize::from(self.0 < 100.0 && has_parts);
        write!(f, "{:.digits$}{unit}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[u64]) -> Samples {
        let mut samples = Samples::times();
        for value in values {
            samples.push_number(*value);
        }
        samples
    }

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        let values = samples(&[12, 10, 9000, 11, 10]);
        assert_eq!(values.typical().to_string(), "11.0 ms");
        assert_eq!(values.spread(), "10.0 ms … 9000 ms");
        assert_eq!(samples(&[10, 20]).typical().to_string(), "15.0 ms");
    }

    #[test]
    fn a_rate_is_in_bits() {
        let mut rates = Samples::new(Unit::MegabitsPerSecond);
        rates.push_rate(5_000_000, Duration::from_millis(500));
        assert_eq!(rates.typical().to_string(), "80.0 Mbit/s");
    }

    #[test]
    fn values_of_one_name_are_together() {
        let mut named = Named::default();
        for (name, value) in [("b", 1), ("a", 5), ("b", 3)] {
            named.push_number(name, Unit::Kibibytes, value);
        }
        let medians: Vec<_> =
            named.into_iter().map(|(name, samples)| (name, samples.median(), samples.count())).collect();
        assert_eq!(medians, [("b".to_owned(), 2.0, 2), ("a".to_owned(), 5.0, 1)]);
    }

    #[test]
    fn a_single_value_has_no_spread() {
        assert_eq!(Samples::kibibytes(164).spread(), "-");
        assert_eq!(Samples::kibibytes(164).typical().to_string(), "164 KiB");
    }
}
