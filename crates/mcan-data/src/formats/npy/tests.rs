use super::*;
use ndarray::{Array2, arr2};
use ndarray_npy::ReadNpyExt;

#[test]
fn headers_are_those_of_numpy() {
    for (descr, fortran_order, shape, text) in [
        (
            "<f4",
            false,
            &[3, 2][..],
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }",
        ),
        (
            "<f4",
            true,
            &[3, 2],
            "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }",
        ),
        (
            "<i8",
            false,
            &[2],
            "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }",
        ),
        (
            "<i8",
            false,
            &[],
            "{'descr': '<i8', 'fortran_order': False, 'shape': (), }",
        ),
    ] {
        let ours = header(descr, fortran_order, shape).unwrap();
        let expected = format!("\u{1}\0v\0{text:<117}\n");
        assert_eq!(&ours[MAGIC.len()..], expected.as_bytes());
        assert_eq!(header_bytes(&ours).unwrap(), ours.len());
        let read = parse(&ours).unwrap();
        assert_eq!(
            (read.fortran_order, &read.shape[..]),
            (fortran_order, shape)
        );
    }
}

#[test]
fn a_header_is_read_from_a_stream_in_every_version() {
    let text = "{\"shape\":(3,2),'fortran_order':False,'descr':'<f2'}  \n";
    let length = (text.len() as u32).to_le_bytes();
    for (version, length) in [(1, &length[..2]), (2, &length), (3, &length)] {
        let file = [MAGIC, &[version, 0], length, text.as_bytes(), b"data"].concat();
        let mut rest = &file[..];
        let header = read(&mut rest).unwrap();
        assert_eq!((header.dtype, &header.shape[..]), (Dtype::F16, &[3, 2][..]));
        assert_eq!(rest, b"data");
        for end in 0..file.len() - 4 {
            assert!(read(&mut &file[..end]).is_err(), "{end} bytes");
        }
    }
    let too_short = [MAGIC, b"\x01\0\x01\0 data and more"].concat();
    assert!(read(&mut &too_short[..]).is_err());
}

#[test]
fn values_of_every_dtype_become_float32() {
    for (descr, data) in [
        ("<f2", f16::from_f32(3.0).to_le_bytes().to_vec()),
        ("<f4", 3f32.to_le_bytes().to_vec()),
        ("<f8", 3f64.to_le_bytes().to_vec()),
        ("|i1", vec![3]),
        ("<i2", vec![3, 0]),
        ("<i4", vec![3, 0, 0, 0]),
        ("<i8", vec![3, 0, 0, 0, 0, 0, 0, 0]),
        ("|u1", vec![3]),
    ] {
        let dtype = dtype(descr).unwrap();
        assert_eq!(dtype.bytes(), data.len(), "{descr}");
        let layout = Layout {
            dtype,
            row_major: true,
            rows: 1,
            columns: 1,
            taken: 1,
        };
        let mut out = Vec::new();
        layout.copy(&data, &mut out);
        assert_eq!(out, [3.0], "{descr}");
    }
    assert_eq!(dtype("|b1").unwrap(), Dtype::Bool);
    for descr in ["|O", ">f4", "<c8", "<u8"] {
        assert!(dtype(descr).is_err(), "{descr}");
    }
}

#[test]
fn another_reader_understands_both_orders() {
    for (fortran_order, values) in [
        (false, [1_f32, 2.0, 3.0, 4.0]),
        (true, [1.0, 3.0, 2.0, 4.0]),
    ] {
        let mut file = header("<f4", fortran_order, &[2, 2]).unwrap();
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let read = Array2::<f32>::read_npy(&file[..]).unwrap();
        assert_eq!(read, arr2(&[[1.0, 2.0], [3.0, 4.0]]));
    }
}
