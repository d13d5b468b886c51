//! The header of a topology file: the meaning of each column.

use super::{Reason, is_number};
use strsim::normalized_damerau_levenshtein;

/// A size of a layer, which determines its product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    IfmapHeight,
    IfmapWidth,
    FilterHeight,
    FilterWidth,
    Channels,
    Filters,
    Stride,
    StrideHeight,
    StrideWidth,
    M,
    N,
    K,
    Batch,
}

impl Key {
    pub(super) const ALL: [Key; 13] = [
        Key::IfmapHeight,
        Key::IfmapWidth,
        Key::FilterHeight,
        Key::FilterWidth,
        Key::Channels,
        Key::Filters,
        Key::Stride,
        Key::StrideHeight,
        Key::StrideWidth,
        Key::M,
        Key::N,
        Key::K,
        Key::Batch,
    ];

    /// The name of the column in SCALE-Sim.
    pub(super) fn title(self) -> &'static str {
        match self {
            Key::IfmapHeight => "IFMAP Height",
            Key::IfmapWidth => "IFMAP Width",
            Key::FilterHeight => "Filter Height",
            Key::FilterWidth => "Filter Width",
            Key::Channels => "Channels",
            Key::Filters => "Num Filter",
            Key::Stride => "Strides",
            Key::StrideHeight => "Stride Height",
            Key::StrideWidth => "Stride Width",
            Key::M => "M",
            Key::N => "N",
            Key::K => "K",
            Key::Batch => "Batch Size",
        }
    }

    /// Other spellings in public files, in the form of [`squeeze`].
    fn aliases(self) -> &'static [&'static str] {
        match self {
            Key::IfmapHeight => &["ifmaph", "inputheight", "inputh"],
            Key::IfmapWidth => &["ifmapw", "inputwidth", "inputw"],
            Key::FilterHeight => &["filterh", "filth", "kernelheight", "kernelh"],
            Key::FilterWidth => &["filterw", "filtw", "kernelwidth", "kernelw"],
            Key::Channels => &["channel", "numchannels", "numchannel", "inputchannels"],
            Key::Filters => &["numfilters", "numfilt", "filters", "outputchannels"],
            Key::Stride => &["stride"],
            Key::StrideHeight => &["strideh"],
            Key::StrideWidth => &["stridew"],
            Key::Batch => &["batch"],
            Key::M | Key::N | Key::K => &[],
        }
    }
}

const PRODUCT: [Key; 3] = [Key::M, Key::N, Key::K];
const CONVOLUTION: [Key; 6] =
    [Key::IfmapHeight, Key::IfmapWidth, Key::FilterHeight, Key::FilterWidth, Key::Channels, Key::Filters];

const NAMES: [&str; 6] = ["layername", "layernames", "layer", "layers", "name", "l"];
const NOT_APPLIED: [&str; 3] = ["sparsity", "sparsityratio", "bases"];
const REMARKS: [&str; 8] = ["remark", "remarks", "comment", "comments", "note", "notes", "description", "target"];

/// The meaning of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// The layer's name.
    Name,
    /// A size of the layer.
    Size(Key),
    /// A property that the model supports with one value only.
    Fixed {
        /// The supported value.
        value: u64,
        /// How to describe the layer without the column.
        remedy: &'static str,
    },
    /// A property that would make the layer cheaper, which the model does not apply.
    NotApplied,
    /// Text for people.
    Remark,
    /// A column with an unknown name. Fields with a digit are refused, other text is ignored.
    Unknown,
}

const PADDING: Column = Column::Fixed { value: 0, remedy: "give the padded ifmap's size and leave the column out" };
const DILATION: Column = Column::Fixed { value: 1, remedy: "dilated filters cannot be written in this format" };
const GROUPS: Column = Column::Fixed { value: 1, remedy: "write each group as a layer of its own" };
const FIXED: [(&str, Column); 11] = [
    ("padding", PADDING),
    ("paddings", PADDING),
    ("pad", PADDING),
    ("pads", PADDING),
    ("dilation", DILATION),
    ("dilations", DILATION),
    ("dilationrate", DILATION),
    ("group", GROUPS),
    ("groups", GROUPS),
    ("numgroup", GROUPS),
    ("numgroups", GROUPS),
];

/// The columns, in the order of the file.
pub(super) struct Header {
    pub(super) columns: Vec<Column>,
    /// The names of the columns, as in the file.
    pub(super) titles: Vec<String>,
    assumed_order: Option<&'static str>,
}

impl Header {
    /// Whether there is no header: the first row is a layer.
    pub(super) fn is_missing(first: &[&str]) -> bool {
        first.get(1).is_some_and(|field| is_number(field))
    }

    /// The order in which SCALE-Sim reads columns. It depends on how many numbers follow the name
    /// in the first row.
    pub(super) fn scale_sim_order(first: &[&str]) -> Result<Self, Reason> {
        let numbers = first[1..].iter().take_while(|field| is_number(field)).count();
        let (keys, order): (Vec<Key>, _) = match numbers {
            3 => (PRODUCT.into(), "name, M, N, K"),
            7 => (
                [&CONVOLUTION[..], &[Key::Stride]].concat(),
                "name, ifmap height, ifmap width, filter height, filter width, channels, filters, stride",
            ),
            8 => (
                [&CONVOLUTION[..], &[Key::StrideHeight, Key::StrideWidth]].concat(),
                "name, ifmap height, ifmap width, filter height, filter width, channels, filters, stride height, \
                 stride width",
            ),
            _ => {
                return Err(format!(
                    "is a layer with {numbers} numbers after its name, and no header says what they are; without a \
                     header a product has 3 (M, N, K), a convolution 7 (ifmap height and width, filter height and \
                     width, channels, filters, stride) or 8 (stride height and width)"
                ));
            }
        };
        let titles = std::iter::once("Layer name").chain(keys.iter().map(|key| key.title())).map(str::to_owned);
        Ok(Self {
            titles: titles.collect(),
            columns: std::iter::once(Column::Name).chain(keys.into_iter().map(Column::Size)).collect(),
            assumed_order: Some(order),
        })
    }

    /// The columns named in the first row.
    pub(super) fn from_names(first: &[&str]) -> Result<Self, Reason> {
        let mut columns: Vec<Column> = first.iter().map(|name| parse_column(name)).collect();
        mend_doubled_width(&mut columns);
        let header = Self { columns, titles: first.iter().map(|&name| name.to_owned()).collect(), assumed_order: None };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Reason> {
        for (index, column) in self.columns.iter().enumerate() {
            let earlier = self.columns[..index].iter().position(|other| other == column);
            if let (Column::Name | Column::Size(_), Some(earlier)) = (column, earlier) {
                let [first, second] = [&self.titles[earlier], &self.titles[index]];
                return Err(format!("columns {first:?} and {second:?} mean the same; remove one"));
            }
        }
        if !self.columns.contains(&Column::Name) {
            return Err(self.explain_missing("Layer name", &NAMES));
        }
        let product = PRODUCT.iter().any(|&key| self.has(key));
        let convolution = CONVOLUTION.iter().any(|&key| self.has(key));
        if product && convolution {
            let is_product_size = |column: &Column| PRODUCT.iter().any(|&key| *column == Column::Size(key));
            let place = self.columns.iter().position(is_product_size).expect("there is one");
            return Err(format!(
                "the header has columns of a convolution and {:?}, which is one of a product (M, N, K); write products \
                 into another file, and call a batch \"Batch Size\"",
                self.titles[place]
            ));
        }
        let required: &[Key] = if product { &PRODUCT } else { &CONVOLUTION };
        if let Some(&key) = required.iter().find(|&&key| !self.has(key)) {
            return Err(self.explain_missing(key.title(), key.aliases()));
        }
        let strides = self.has(Key::Stride) || (self.has(Key::StrideHeight) && self.has(Key::StrideWidth));
        if convolution && !strides {
            return Err(self.explain_missing(Key::Stride.title(), Key::Stride.aliases()));
        }
        Ok(())
    }

    /// The message about a missing column, with a suggestion.
    fn explain_missing(&self, title: &str, aliases: &[&str]) -> Reason {
        if self.titles.iter().any(|title| title.starts_with('"')) {
            return "the format has no quoting; remove the quotation marks".to_owned();
        }
        let similarity = |column: &str| {
            let spellings = aliases.iter().copied().map(str::to_owned).chain([squeeze(title)]);
            spellings.map(|name| normalized_damerau_levenshtein(&squeeze(column), &name)).fold(0.0, f64::max)
        };
        let unknown = self.columns.iter().zip(&self.titles).filter(|(column, _)| **column == Column::Unknown);
        let near = unknown
            .map(|(_, name)| name)
            .filter(|name| similarity(name) > 0.6)
            .max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        let hint = near.map(|name| format!(" (is {name:?} meant?)")).unwrap_or_default();
        format!("the header names no column {title:?}{hint}; docs/formats.md lists the names, under \"Topology\"")
    }

    fn has(&self, key: Key) -> bool {
        self.columns.contains(&Column::Size(key))
    }

    /// Whether rows are products of M x K and K x N, not convolutions.
    pub(super) fn is_product(&self) -> bool {
        self.has(Key::M)
    }

    /// The assumed order of columns, if the file has no header.
    pub(super) fn assumed_order(&self) -> Option<&'static str> {
        self.assumed_order
    }

    /// The row that sets the number of fields, for messages.
    pub(super) fn origin(&self) -> &'static str {
        if self.assumed_order.is_some() { "the first row" } else { "the header" }
    }

    /// Finds the index and name of each column with a meaning.
    pub(super) fn find_columns(&self, meaning: Column) -> impl Iterator<Item = (usize, &str)> {
        let columns = self.columns.iter().zip(&self.titles).enumerate();
        columns.filter(move |(_, (column, _))| **column == meaning).map(|(index, (_, title))| (index, title.as_str()))
    }
}

/// Reduces a name to letters, digits and quotation marks, in lower case.
fn squeeze(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric() || *c == '"').flat_map(char::to_lowercase).collect()
}

fn parse_column(name: &str) -> Column {
    let name = squeeze(name);
    let is_key = |key: &&Key| squeeze(key.title()) == name || key.aliases().contains(&name.as_str());
    if let Some(&key) = Key::ALL.iter().find(is_key) {
        return Column::Size(key);
    }
    if let Some((_, fixed)) = FIXED.iter().find(|(title, _)| *title == name) {
        return *fixed;
    }
    match name.as_str() {
        name if NAMES.contains(&name) => Column::Name,
        name if NOT_APPLIED.contains(&name) => Column::NotApplied,
        name if REMARKS.contains(&name) => Column::Remark,
        _ => Column::Unknown,
    }
}

/// In SCALE-Sim's own file for `DeepBench` both height and width are called "IFMAP Width". The
/// first is the height.
fn mend_doubled_width(columns: &mut [Column]) {
    let widths = columns.iter().filter(|column| **column == Column::Size(Key::IfmapWidth)).count();
    if widths == 2 && !columns.contains(&Column::Size(Key::IfmapHeight)) {
        let first = columns.iter_mut().find(|column| **column == Column::Size(Key::IfmapWidth));
        *first.expect("there are two") = Column::Size(Key::IfmapHeight);
    }
}
