use super::*;
use proptest::prelude::*;

fn parse(text: impl AsRef<[u8]>) -> std::result::Result<Topology, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    read(file.path()).map_err(|error| {
        let text = error.to_string();
        text.split_once(": ").expect("a path goes first").1.to_owned()
    })
}

fn gemms(text: &str) -> Vec<(u64, u64, u64, u64)> {
    let layers = parse(text).unwrap().layers;
    layers.iter().map(|layer| (layer.gemm.m, layer.gemm.k, layer.gemm.n, layer.gemm.count)).collect()
}

const CONVOLUTION: &str =
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,";

#[test]
fn convolutions_and_products_are_read_with_and_without_trailing_commas() {
    let text = format!("{CONVOLUTION}\nConv1, 224, 224, 11, 11, 3, 96, 4,\nConv2, 31, 28, 5, 3, 96, 256, 2\n\n");
    assert_eq!(gemms(&text), [(55 * 55, 363, 96, 1), (14 * 14, 1440, 256, 1)]);
    let topology = parse("Layer, M, N, K,\nfc, 128, 4096, 2048,\n").unwrap();
    let gemm = Gemm { m: 128, k: 2048, n: 4096, count: 1 };
    assert_eq!(topology.layers, [TopologyLayer { name: "fc".into(), gemm, line: 2 }]);
    assert_eq!((topology.assumed_order, topology.not_applied), (None, vec![]));
}

#[test]
fn columns_are_found_by_name_in_any_order_and_spelling() {
    assert_eq!(gemms("k,LAYER_NAME,m,n\n7,a,5,6\n"), [(5, 7, 6, 1)]);
    let shuffled = "stride_w,Num Filters,FILTER  HEIGHT,filter-width,channel,Stride H,IFMAP_H,ifmap width,name\n\
                    2,8,3,5,4,1,9,11,c\n";
    assert_eq!(gemms(shuffled), [(7 * 4, 60, 8, 1)]);
    // SCALE-Sim's file for DeepBench calls the height a width.
    let doubled = "Layer, IFMAP Width, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n\
                   speech,700,161,20,5,1,32,2,\n";
    assert_eq!(gemms(doubled), [(341 * 79, 100, 32, 1)]);
    assert_eq!(gemms("\u{feff}L,M,N,K\na,1,2,3"), [(1, 3, 2, 1)]);
}

#[test]
fn a_batch_multiplies_m_and_may_be_left_out_of_a_row() {
    let text = format!("{CONVOLUTION} Batch Size,\nc, 32, 32, 3, 3, 16, 32, 1, 8,\nd, 32, 32, 3, 3, 16, 32, 1,\n");
    assert_eq!(gemms(&text), [(7200, 144, 32, 1), (900, 144, 32, 1)]);
    assert_eq!(gemms("Layer,M,N,K,batch\ng,4,5,6,3\n"), [(12, 6, 5, 1)]);
    let depth_wise = format!("{CONVOLUTION} Batch\nDP1, 9, 9, 3, 3, 4, 1, 1, 2\n");
    assert_eq!(gemms(&depth_wise), [(98, 9, 1, 4)]);
}

#[test]
fn columns_that_are_not_applied_are_reported_once_and_only_where_they_hold_something() {
    let text = format!("{CONVOLUTION} bases, Sparsity\nc, 32, 32, 3, 3, 16, 32, 1, 5, 2:4\nd, 9, 9, 3, 3, 1, 1, 1\n");
    let topology = parse(&text).unwrap();
    assert_eq!(topology.not_applied, ["bases", "Sparsity"]);
    assert_eq!(topology.layers[0].gemm, Gemm { m: 900, k: 144, n: 32, count: 1 });
    assert!(parse(format!("{CONVOLUTION} bases\nd, 9, 9, 3, 3, 1, 1, 1\n")).unwrap().not_applied.is_empty());
}

#[test]
fn remarks_are_ignored() {
    let text = format!(
        "{CONVOLUTION}\na, 9, 9, 3, 3, 4, 8, 1, 2:4, NPU,\nb, 9, 9, 3, 3, 4, 8, 1, see table 2, row 3\n\
         DP1, 9, 9, 3, 3, 4, 1, 1, # dw\n"
    );
    assert_eq!(gemms(&text), [(49, 36, 8, 1), (49, 36, 8, 1), (49, 9, 1, 4)]);
    let topology = parse("Layer,Remark,M,N,K,Layer type\na,7,1,2,3,conv\n").unwrap();
    assert_eq!((topology.layers[0].gemm.m, topology.not_read), (1, vec!["Layer type".to_owned()]));
}

#[test]
fn without_a_header_the_order_is_that_of_scale_sim() {
    assert_eq!(gemms("a,1,2,3\nb,4,5,6,\n"), [(1, 3, 2, 1), (4, 6, 5, 1)]);
    assert_eq!(gemms("c,9,9,3,3,4,8,2,2:4\n"), [(16, 36, 8, 1)]);
    assert_eq!(gemms("c,9,9,3,3,4,8,2,1,\n"), [(4 * 7, 36, 8, 1)]);
    assert_eq!(parse("a,1,2,3\n").unwrap().assumed_order, Some("name, M, N, K"));
    assert!(parse("a,1,2,3,4\n").unwrap_err().starts_with("line 1: is a layer with 4 numbers"));
    assert!(parse("a,1,2,3\nb,1,2,3,4\n").unwrap_err().contains("line 2: has 5 fields where the first row has 4"));
}

#[test]
fn a_quote_is_an_ordinary_character() {
    let topology = parse("Layer,M,N,K,\n\"a,1,2,3,\nb,1,2,3,\n\"c\",4,5,6,\n").unwrap();
    let names: Vec<_> = topology.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["\"a", "b", "\"c\""]);
}

#[test]
fn lines_are_numbered_as_an_editor_does() {
    for text in
        ["Layer,M,N,K\r\na,1,2,3\r\nb,1,x,3\r\n", "Layer,M,N,K\ra,1,2,3\rb,1,x,3", "\n\nLayer,M,N,K\n\n,,,\nb,1,x,3\n"]
    {
        let line = if text.starts_with('\n') { 6 } else { 3 };
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(&format!("line {line}: N is \"x\", not a whole number")), "{error}");
    }
    assert!(parse(b"Layer,M,N,K\na,1,2,3\nb\xff,1,2,3\n").unwrap_err().starts_with("line 3: is not UTF-8"));
}

#[test]
fn invalid_files_are_refused_with_a_reason() {
    let refused = |text: &str| parse(text).unwrap_err();
    let convolution = |row: &str| parse(format!("{CONVOLUTION}\n{row}\n")).unwrap_err();
    let convolution_with = |column: &str, field: &str| {
        parse(format!("{CONVOLUTION} {column}\na, 9, 9, 3, 3, 4, 8, 1, {field}\n")).unwrap_err()
    };
    for (error, expected) in [
        (refused("Layer,M,N,K,Repeat\na,1,2,3,x4\n"), "line 2: column \"Repeat\" holds \"x4\", and whether"),
        (refused("Layer,M,N,K,Scale\na,1,2,3,inf\n"), "line 2: column \"Scale\" holds \"inf\", and whether"),
        (convolution_with("Pads", "1-1"), "line 2: Pads is \"1-1\", where only 0 can be timed; give the padded"),
        (convolution_with("N", "8"), "line 1: the header has columns of a convolution and \"N\", which"),
        (refused("\"Layer\",\"M\",\"N\",\"K\"\na,1,2,3\n"), "line 1: the format has no quoting; remove the quotation"),
        (refused("Layer\tM\tN\tK\na\t1\t2\t3\n"), "line 1: fields are separated by tabs; separate them by commas"),
        (refused("Layer;M;N;K\na;1;2;3\n"), "line 1: fields are separated by semicolons"),
        (refused("Layer,M,N,K\na;1;2;3\n"), "line 2: fields are separated by semicolons"),
        (convolution("\nTinyNet,\nc,9,9,3,3,4,8,1,"), "line 3: \"TinyNet\" stands alone: a title"),
        (convolution("a, 1, 2"), "line 2: has no value for "),
        (convolution("a, 9, 9, 3, 3, 4, 8"), "line 2: has no value for Strides"),
        (
            convolution("a, 9, 9, 3, 3, 4, 8, 1, 2"),
            "line 2: has 9 fields where the header has 8, and \"2\" is no remark",
        ),
        (convolution("a, 8, 8, 3, 3, x, 4, 1"), "line 2: Channels is \"x\", not a whole number"),
        (convolution("a, 0, 8, 3, 3, 1, 4, 1"), "line 2: IFMAP Height is \"0\", not a whole number from 1"),
        (convolution("a, 2, 2, 3, 3, 1, 4, 1"), "line 2: a filter of 3 x 3 does not fit an ifmap of 2 x 2"),
        (
            convolution("a\t 8, 8, 3, 3, 1, 4, 1"),
            "line 2: Layer name is \"a\\t 8\": a tab stands where a comma is missing",
        ),
        (convolution(", 8, 8, 3, 3, 1, 4, 1"), "line 2: the layer has no name"),
        (convolution(""), "line 1: the file holds no layers, only a header"),
        (refused(""), "line 1: the file holds no layers"),
        (refused("Layer,M,N,K,Eh\na,1,2,3,\nb,1,2,3,110\n"), "line 3: column \"Eh\" holds \"110\", and whether"),
        (
            refused("Layer,M,N,K,Groups\na,1,2,3,2\n"),
            "line 2: Groups is \"2\", where only 1 can be timed; write each group",
        ),
        (refused("Layer,M,N,K,m\na,1,2,3,4\n"), "line 1: columns \"M\" and \"m\" mean the same"),
        (refused("Layer,M,N,K,Channels\na,1,2,3,4\n"), "line 1: the header has columns of a convolution and \"M\""),
        (refused("Layer,M,N\na,1,2\n"), "line 1: the header names no column \"K\""),
        (
            refused(&format!("{}\na,9,9,3,3,4,8,1\n", CONVOLUTION.replace("Num Filter", "Num Fliter"))),
            "line 1: the header names no column \"Num Filter\" (is \"Num Fliter\" meant?)",
        ),
    ] {
        assert!(error.starts_with(expected), "{error}\nnot: {expected}");
    }
    assert_eq!(gemms("Layer,M,N,K,Groups,Padding,Dilation\na,1,2,3,1,0,1\n"), [(1, 3, 2, 1)]);
}

#[test]
fn sizes_reach_as_far_as_64_bits() {
    assert_eq!(gemms("Layer,M,N,K\nffn,65536,49152,12288\nlookup,2048,64,40000000\n").len(), 2);
    assert_eq!(gemms(&format!("Layer,M,N,K\na,{},1,1\n", i64::MAX)), [(i64::MAX as u64, 1, 1, 1)]);
    assert!(parse(format!("Layer,M,N,K\n{}\n", "x".repeat(1000))).unwrap_err().len() < 200);
    for row in ["a,9223372036854775808,1,1", "a,4294967296,4294967296,1", "a,99999999999999999999,2,3"] {
        assert!(parse(format!("Layer,M,N,K\n{row}\n")).is_err(), "{row}");
    }
    let whole = format!("{CONVOLUTION} Batch\na{}\n", format!(", {}", i64::MAX).repeat(8));
    assert!(parse(whole).unwrap_err().contains("multiply-accumulates"));
}

/// Counts the positions of a filter along one axis one by one. As in SCALE-Sim, the last may reach
/// past the end by less than a stride.
fn count_positions(size: u64, filter: u64, stride: u64) -> u64 {
    (0..=size).filter(|position| position * stride < size - filter + stride).count() as u64
}

proptest! {
    #[test]
    fn convolutions_equal_a_count_of_their_positions(
        [height, width] in [1u64..40, 1..40],
        [filter_height, filter_width] in [1u64..8, 1..8],
        [channels, filters, batch] in [1u64..9, 1..9, 1..4],
        [stride_height, stride_width] in [1u64..5, 1..5],
        order in Just((0..10).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let (height, width) = (height.max(filter_height), width.max(filter_width));
        let cells = [
            ("Layer name", "c".to_owned()),
            ("IFMAP Height", height.to_string()),
            ("IFMAP Width", width.to_string()),
            ("Filter Height", filter_height.to_string()),
            ("Filter Width", filter_width.to_string()),
            ("Channels", channels.to_string()),
            ("Num Filter", filters.to_string()),
            ("Stride Height", stride_height.to_string()),
            ("Stride Width", stride_width.to_string()),
            ("Batch Size", batch.to_string()),
        ];
        let names: Vec<_> = order.iter().map(|&cell| cells[cell].0).collect();
        let row: Vec<_> = order.iter().map(|&cell| cells[cell].1.as_str()).collect();
        let rows = count_positions(height, filter_height, stride_height);
        let m = rows * count_positions(width, filter_width, stride_width) * batch;
        let found = gemms(&format!("{}\n{}\n", names.join(","), row.join(",")));
        prop_assert_eq!(found, [(m, filter_height * filter_width * channels, filters, 1)]);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-zA-Z0-9,;\t\n\r\" #:.-]{0,200}") {
        let _ = parse(text);
    }
}
