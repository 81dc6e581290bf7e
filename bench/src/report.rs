//! The results as a document.

use std::fmt;
use std::time::Duration;

use crate::machine::Machine;
use crate::sample::Samples;

/// Everything that one run has found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// The release of the kernel that the guests boot.
    pub(crate) guest_kernel: String,
    pub(crate) comparisons: Vec<Comparison>,
    /// What was found in a test host, as it was written there.
    pub(crate) hosted: Option<String>,
    /// How long the run took.
    pub(crate) duration: Duration,
}

/// One table.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) title: String,
    /// What was measured, and how, in a few sentences.
    pub(crate) method: String,
    pub(crate) rows: Vec<Row>,
}

/// One line of a table.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    samples: Samples,
    /// What it is compared with.
    other: Option<(String, Samples)>,
    mark: Option<Mark>,
}

/// What a value should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    /// The median is at most this, in its unit.
    AtMost(f64),
    /// The ratio of the medians is at most the first, better still at most the second.
    Ratio(f64, f64),
    /// The ratio of the medians is at most this.
    RatioAtMost(f64),
    /// The ratio of the medians is at least this.
    RatioAtLeast(f64),
    /// The ratio of the medians is at most 1 divided by this.
    TimesAsQuick(f64),
    /// The median is at most this much larger than the other, in its unit.
    Beyond(f64),
    /// The ratio of the medians is about 1: from 1/1.25 to 1.25.
    Same,
}

impl Comparison {
    /// Returns a table without a line, for what could not be measured.
    pub(crate) fn nothing(title: &str) -> Self {
        Self { title: title.to_owned(), method: "**Not measured.**".to_owned(), rows: Vec::new() }
    }
}

impl Row {
    /// Returns a line with a value that is compared with nothing.
    pub(crate) fn of(what: impl Into<String>, samples: Samples) -> Self {
        Self { what: what.into(), samples, other: None, mark: None }
    }

    /// Returns the line with what it is compared with.
    pub(crate) fn against(self, other: impl Into<String>, samples: &Samples) -> Self {
        Self { other: Some((other.into(), samples.clone())), ..self }
    }

    /// Returns the line with what the value should be.
    pub(crate) fn mark(self, mark: Mark) -> Self {
        Self { mark: Some(mark), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        let (_, other) = self.other.as_ref()?;
        let median = other.median();
        (median > 0.0).then(|| self.samples.median() / median)
    }

    /// Returns the mark and whether it was met.
    fn verdict(&self) -> (String, &'static str) {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        let met = |yes: bool| if yes { "met" } else { "**missed**" };
        match self.mark {
            None => (String::new(), ""),
            Some(Mark::AtMost(most)) => {
                (format!("≤ {most}"), met(self.samples.count() > 0 && self.samples.median() <= most))
            }
            Some(Mark::Beyond(most)) => {
                let other = self.other.as_ref().map_or(f64::NAN, |(_, other)| other.median());
                (format!("≤ {most} more"), met(self.samples.median() - other <= most))
            }
            Some(Mark::Ratio(most, aim)) => {
                let verdict = if ratio <= aim { "met, and the aim" } else { met(ratio <= most) };
                (format!("ratio ≤ {most}, aim {aim}"), verdict)
            }
            Some(Mark::RatioAtMost(most)) => (format!("ratio ≤ {most}"), met(ratio <= most)),
            Some(Mark::RatioAtLeast(least)) => (format!("ratio ≥ {least}"), met(ratio >= least)),
            Some(Mark::TimesAsQuick(times)) => {
                (format!("ratio ≤ {:.2} ({times} times as quick)", 1.0 / times), met(ratio <= 1.0 / times))
            }
            Some(Mark::Same) => {
                ("ratio 0.80 … 1.25 (the same)".to_owned(), met((0.8..=1.25).contains(&ratio)))
            }
        }
    }
}

impl Row {
    /// The cells about the value itself.
    fn own_cells(&self) -> String {
        let Self { what, samples, .. } = self;
        format!("| {what} | {} | {} | {} |", samples.count(), samples.typical(), samples.spread())
    }

    /// The cells about what it is compared with.
    fn other_cells(&self) -> String {
        let Some((name, other)) = &self.other else { return " | | | | |".to_owned() };
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let (count, typical, spread) = (other.count(), other.typical(), other.spread());
        format!(" {name} | {count} | {typical} | {spread} | {ratio} |")
    }

    fn mark_cells(&self) -> String {
        let (mark, verdict) = self.verdict();
        format!(" {mark} | {verdict} |")
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}", self.title, self.method)?;
        if self.rows.is_empty() {
            return Ok(());
        }
        // Columns that would be empty all the way down are left out.
        let compares = self.rows.iter().any(|row| row.other.is_some());
        let marks = self.rows.iter().any(|row| row.mark.is_some());
        let (mut names, mut rule) =
            ("| what | n | median | least … most |".to_owned(), "|---|--:|--:|--:|".to_owned());
        if compares {
            names += " compared with | n | median | least … most | ratio |";
            rule += "---|--:|--:|--:|--:|";
        }
        if marks {
            names += " mark | |";
            rule += "---|---|";
        }
        writeln!(f, "\n{names}\n{rule}")?;
        for row in &self.rows {
            f.write_str(&row.own_cells())?;
            if compares {
                f.write_str(&row.other_cells())?;
            }
            if marks {
                f.write_str(&row.mark_cells())?;
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs();
        f.write_str(
            "# Results\n\n\
             Written by `cargo xtask bench`; not to be edited. Compare within this page only: what stands in one\n\
             line was measured in turns, in one run, on one machine. A ratio is the median of the first divided by\n\
             the median of the second.\n\n",
        )?;
        self.machine.fmt(f)?;
        writeln!(f, "- guest kernel: {}", self.guest_kernel)?;
        writeln!(f, "- the run took {} min {} s", seconds / 60, seconds % 60)?;
        self.comparisons.iter().try_for_each(|comparison| write!(f, "\n{comparison}"))?;
        f.write_str(
            self.hosted.as_deref().unwrap_or("\n# On Firecracker\n\n**Not measured**: there is none here.\n"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(value: u64) -> Samples {
        let mut samples = Samples::times();
        samples.push_number(value);
        samples
    }

    fn verdict(ours: u64, other: u64, mark: Mark) -> &'static str {
        Row::of("a", samples(ours)).against("b", &samples(other)).mark(mark).verdict().1
    }

    #[test]
    fn a_missed_mark_is_said() {
        assert_eq!(verdict(51, 1, Mark::AtMost(50.0)), "**missed**");
        assert_eq!(verdict(50, 1, Mark::AtMost(50.0)), "met");
        assert_eq!(verdict(130, 100, Mark::Ratio(1.6, 1.3)), "met, and the aim");
        assert_eq!(verdict(150, 100, Mark::Ratio(1.6, 1.3)), "met");
        assert_eq!(verdict(170, 100, Mark::Ratio(1.6, 1.3)), "**missed**");
        assert_eq!(verdict(50, 100, Mark::TimesAsQuick(2.0)), "met");
        assert_eq!(verdict(51, 100, Mark::TimesAsQuick(2.0)), "**missed**");
        assert_eq!(verdict(90, 100, Mark::RatioAtLeast(0.9)), "met");
        assert_eq!(verdict(89, 100, Mark::RatioAtLeast(0.9)), "**missed**");
        assert_eq!(verdict(70, 100, Mark::Same), "**missed**");
        assert_eq!(verdict(110, 100, Mark::Same), "met");
    }

    #[test]
    fn columns_that_nothing_fills_are_left_out() {
        let table = |row: Row| {
            let (title, method) = (String::new(), String::new());
            let text = Comparison { title, method, rows: vec![row] }.to_string();
            text.lines().rev().take(3).map(|line| line.matches('|').count()).collect::<Vec<_>>()
        };
        assert_eq!(table(Row::of("a", samples(1))), [5, 5, 5]);
        assert_eq!(table(Row::of("a", samples(1)).mark(Mark::AtMost(1.0))), [7, 7, 7]);
        let compared = Row::of("a", samples(1)).against("b", &samples(1));
        assert_eq!(table(compared.mark(Mark::Same)), [12, 12, 12]);
    }

    #[test]
    fn what_was_not_measured_meets_no_mark() {
        let nothing = Row::of("a", Samples::times());
        assert_eq!(nothing.mark(Mark::AtMost(50.0)).verdict().1, "**missed**");
        let nothing = Row::of("a", samples(1)).against("b", &Samples::times());
        assert_eq!(nothing.mark(Mark::Ratio(1.6, 1.3)).verdict().1, "**missed**");
    }
}
