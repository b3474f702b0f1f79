//! Makes `.npz` files for tests, with all variations that real files have.

use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A `.npy` array: `header` is the text of the dictionary, padded with spaces to a multiple of `align`.
pub fn npy(version: u8, align: usize, header: &str, data: &[u8]) -> Vec<u8> {
    let start = if version == 1 { 10 } else { 12 };
    let text = (start + header.len() + 1).next_multiple_of(align) - start;
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((text as u16).to_le_bytes()),
        _ => bytes.extend((text as u32).to_le_bytes()),
    }
    bytes.extend(format!("{header:<width$}\n", width = text - 1).bytes());
    bytes.extend(data);
    bytes
}

/// The dictionary of a little-endian float32 array.
pub fn f4(fortran_order: bool, shape: &str) -> String {
    let order = if fortran_order { "True" } else { "False" };
    format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': {shape}, }}")
}

/// A zip of the given members.
pub fn zip(deflated: bool, members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let method = if deflated {
        CompressionMethod::Deflated
    } else {
        CompressionMethod::Stored
    };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A feature file with the regions of (n, `columns`). The boxes are (i, 1, 2, 3), and the image is 640 by 480.
pub fn feature_file(rows: &[f32], columns: usize, fortran_order: bool, deflated: bool) -> Vec<u8> {
    let n = rows.len() / columns;
    let data: Vec<u8> = if fortran_order {
        rows.iter().flat_map(|v| v.to_le_bytes()).collect()
    } else {
        (0..rows.len())
            .flat_map(|i| rows[i % n * columns + i / n].to_le_bytes())
            .collect()
    };
    let boxes = (0..n)
        .flat_map(|i| [i as f32, 1.0, 2.0, 3.0])
        .flat_map(f32::to_le_bytes)
        .collect::<Vec<_>>();
    let scalar = |value: i64| {
        npy(
            1,
            16,
            "{'descr': '<i8', 'fortran_order': False, 'shape': (), }",
            &value.to_le_bytes(),
        )
    };
    let x = npy(
        1,
        16,
        &f4(fortran_order, &format!("({columns}, {n})")),
        &data,
    );
    let bbox = npy(1, 16, &f4(false, &format!("({n}, 4)")), &boxes);
    let members = [
        ("image_w.npy", scalar(640)),
        ("x.npy", x),
        ("bbox.npy", bbox),
        ("image_h.npy", scalar(480)),
    ];
    zip(deflated, &members)
}
