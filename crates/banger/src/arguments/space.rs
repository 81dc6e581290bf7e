//! What takes space, and what of it may go.

use clap::{Args, Subcommand};

use super::WaitOptions;

/// `banger system …`.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Show what takes space, as du counts it, and how much of it could go
    Df(DfArguments),
    /// Delete what nobody uses: superseded images and kernels, and what was downloaded and not used for a week
    Prune(PruneArguments),
}

/// Arguments of `df`.
#[derive(Debug, Args)]
pub struct DfArguments {
    /// One line for each thing
    #[arg(short, long)]
    pub verbose: bool,
}

/// Arguments of `prune`.
#[derive(Debug, Args)]
pub struct PruneArguments {
    /// Only show what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Whatever no VM uses, and everything that was downloaded
    #[arg(short, long)]
    pub all: bool,
    /// Nothing that is younger: a number with m, h or d, as in 30d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub older_than: Option<u64>,
    /// How many of the newest versions of each image and kernel stay
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep: usize,
    /// Do not ask
    #[arg(short, long, visible_short_alias = 'f')]
    pub yes: bool,
    /// How to wait for it.
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// Returns the seconds of an age.
fn age(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let unit = match unit {
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(24 * 3600),
        _ => None,
    };
    let seconds = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    seconds.ok_or_else(|| {
        format!("'{text}' is not an age; write a whole number with m, h or d, as in 12h or 30d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units() {
        assert_eq!(age("30d"), Ok(30 * 24 * 3600));
        assert_eq!(age("12h"), Ok(12 * 3600));
        assert_eq!(age("0m"), Ok(0));
        for bad in ["", "7", "d", "-1d", "1w", "1.5h", "99999999999999999999d", "9999999999999999999d"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }
}
