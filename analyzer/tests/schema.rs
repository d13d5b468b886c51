//! docs/formats.md names every column of the results' tables with its type, and no other.

use mercury_analyzer::schema::{TableSpec, angles, choices, configurations, designs, frontier, layers, models};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const TABLES: [TableSpec; 7] = [
    layers::TABLE,
    models::TABLE,
    configurations::TABLE,
    designs::TABLE,
    angles::TABLE,
    frontier::TABLE,
    choices::TABLE,
];

/// Names and types in the tables of columns of a section of docs/formats.md.
fn read_documented(text: &str, title: &str) -> BTreeMap<String, String> {
    let mut documented = BTreeMap::new();
    let mut is_here = false;
    let mut is_of_columns = false;
    for line in text.lines() {
        if line.starts_with('#') {
            is_here = line.trim_start_matches('#').trim() == title;
        }
        let Some(row) = line.strip_prefix('|').filter(|_| is_here) else {
            is_of_columns = false;
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells[0] == "column" {
            is_of_columns = true;
        } else if is_of_columns {
            // Names stand between backticks: every second piece.
            for name in cells[0].split('`').skip(1).step_by(2) {
                let earlier = documented.insert(name.to_owned(), cells[1].to_owned());
                assert!(earlier.is_none(), "docs/formats.md, {title}: {name} stands twice");
            }
        }
    }
    assert!(!documented.is_empty(), "docs/formats.md: section {title:?} has no table of columns");
    documented
}

#[test]
fn formats_and_schema_name_the_same_columns() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats.md");
    let text = fs::read_to_string(path).unwrap();
    for table in TABLES {
        let title = format!("results/{}", table.file);
        let documented = read_documented(&text, &title);
        for column in table.columns {
            let found = documented.get(column.name);
            let found = found.unwrap_or_else(|| panic!("docs/formats.md, {title}: lacks column {}", column.name));
            assert_eq!(found, column.kind.name(), "docs/formats.md, {title}: type of column {}", column.name);
        }
        for name in documented.keys() {
            assert!(table.has(name), "analyzer/src/schema, {title}: lacks column {name} of docs/formats.md");
        }
    }
}

#[test]
fn columns_are_described_once_in_a_sentence() {
    for table in TABLES {
        let names: BTreeSet<&str> = table.columns.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), table.columns.len(), "{}: a column stands twice", table.file);
        for column in table.columns {
            let words = column.doc.split_whitespace().count();
            let is_sentence = column.doc.ends_with('.') && !column.doc.starts_with(' ');
            assert!(is_sentence && words <= 25, "{}, {}: {:?}", table.file, column.name, column.doc);
        }
    }
}
