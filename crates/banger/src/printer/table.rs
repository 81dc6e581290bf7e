//! Columns, aligned with spaces.

use std::fmt::{self, Write as _};

use super::printable;

/// Spaces between two columns.
const GAP: usize = 3;

/// Rows of cells under one heading, all of the same length.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    heading: bool,
}

impl Table {
    /// Returns a table with these headings and no rows.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()], heading: true }
    }

    /// Returns a table of properties: names on the left, values on the right, no heading.
    pub(crate) fn of_properties() -> Self {
        Self { rows: Vec::new(), heading: false }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Adds a property.
    pub(crate) fn property(&mut self, name: &str, value: impl Into<String>) {
        self.row([format!("{name}:"), value.into()]);
    }

    /// Adds a property with a value for each line.
    pub(crate) fn properties<T: fmt::Display>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        for (number, value) in values.into_iter().enumerate() {
            let name = if number == 0 { format!("{name}:") } else { String::new() };
            self.row([name, value.to_string()]);
        }
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(move |row| row.get(column)).map(|c| c.chars().count())
        };
        (0..columns).map(|column| width(column).max().unwrap_or(0)).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                let shown = if cell.is_empty() && self.heading && number > 0 { "-" } else { cell };
                write!(line, "{shown:<width$}{:GAP$}", "")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "STATE", "PORTS"]);
        table.row(["a-long-name", "running", ""].map(str::to_owned));
        table.row(["b", "stopped", "127.0.0.1:80->80"].map(str::to_owned));
        insta::assert_snapshot!(table.to_string(), @r"
        NAME          STATE     PORTS
        a-long-name   running   -
        b             stopped   127.0.0.1:80->80
        ");
    }
}
