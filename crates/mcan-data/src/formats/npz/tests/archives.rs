//! Feature files whose zip archive is unusual or damaged.

use super::*;

#[test]
fn a_zip64_archive_is_read() {
    let options = ::zip::write::SimpleFileOptions::default().large_file(true);
    let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("x.npy", options).unwrap();
    std::io::Write::write_all(
        &mut writer,
        &npy(1, 64, &f4(true, "(4, 3)"), &bytes(&rows())),
    )
    .unwrap();
    assert_eq!(
        regions(&writer.finish().unwrap().into_inner(), 4, 100).unwrap(),
        rows()
    );
    // A plain archive, with all numbers moved to the zip64 records.
    let mut file = only_x(true, &f4(true, "(4, 3)"), &bytes(&rows()));
    let end = file.len() - 22;
    let entry = u32::from_le_bytes(file[end + 16..end + 20].try_into().unwrap()) as usize;
    let numbers = |at: usize| u64::from(u32::from_le_bytes(file[at..at + 4].try_into().unwrap()));
    let (packed, size, local) = (
        numbers(entry + 20),
        numbers(entry + 24),
        numbers(entry + 42),
    );
    let extra: Vec<u8> = [1u16, 24].iter().flat_map(|v| v.to_le_bytes()).collect();
    let extra = [
        extra,
        [size, packed, local]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
    ]
    .concat();
    let old_extra = usize::from(u16::from_le_bytes(
        file[entry + 30..entry + 32].try_into().unwrap(),
    ));
    let tail_of_file = file.split_off(end);
    file.truncate(file.len() - old_extra);
    file[entry + 30..entry + 32].copy_from_slice(&(extra.len() as u16).to_le_bytes());
    for at in [20, 24, 42] {
        file[entry + at..entry + at + 4].fill(0xff);
    }
    file.extend(&extra);
    let end64 = file.len() as u64;
    let mut record = b"PK\x06\x06".to_vec();
    record.resize(56, 0);
    record[32..40].copy_from_slice(&1u64.to_le_bytes());
    record[48..56].copy_from_slice(&(entry as u64).to_le_bytes());
    file.extend(record);
    file.extend(
        [
            b"PK\x06\x07".as_slice(),
            &[0; 4],
            &end64.to_le_bytes(),
            &[0; 4],
        ]
        .concat(),
    );
    file.extend(tail_of_file);
    let end = file.len() - 22;
    file[end + 8..end + 20].fill(0xff);
    assert_eq!(regions(&file, 4, 100).unwrap(), rows());
}

/// Overwrites a field of the (only) directory entry.
fn with_entry(mut file: Vec<u8>, field: usize, value: &[u8]) -> Vec<u8> {
    let end = file.len() - 22;
    let entry = u32::from_le_bytes(file[end + 16..end + 20].try_into().unwrap()) as usize;
    file[entry + field..entry + field + value.len()].copy_from_slice(value);
    file
}

#[test]
fn a_wrong_directory_is_an_error_before_memory_is_taken() {
    for deflated in [false, true] {
        let good = only_x(deflated, &f4(true, "(4, 3)"), &bytes(&rows()));
        assert!(error(&with_entry(good.clone(), 8, &[1])).contains("encrypted"));
        assert!(error(&with_entry(good.clone(), 10, &[12])).contains("method 12"));
        assert!(error(&with_entry(good.clone(), 16, &[1, 2, 3, 4])).contains("checksum"));
        let message = error(&with_entry(good.clone(), 24, &0x7fff_ffffu32.to_le_bytes()));
        assert!(message.contains("claims 2147483647 bytes"), "{message}");
        assert!(
            error(&with_entry(good.clone(), 20, &0x7fff_ffffu32.to_le_bytes()))
                .contains("ends before")
        );
        assert!(
            error(&with_entry(good.clone(), 42, &[255, 255, 255, 127]))
                .contains("local zip header")
        );
        assert!(error(&with_entry(good.clone(), 42, &[255; 4])).contains("zip64"));
        // One byte less or more than the stream holds.
        let size = 128 + 48u32;
        for wrong in [size - 1, size + 1] {
            let message = error(&with_entry(good.clone(), 24, &wrong.to_le_bytes()));
            let expected = if deflated {
                "cut short or damaged"
            } else {
                "bytes"
            };
            assert!(message.contains(expected), "{message}");
        }
    }
}

#[test]
fn a_stream_of_another_length_than_its_directory_says_is_damaged() {
    // Shape and directory agree on 4 regions, but the stream has 3 or 5.
    for n in [3u32, 5] {
        let data = vec![1; n as usize * 16];
        let file = only_x(true, &f4(true, "(4, 4)"), &data);
        let message = error(&with_entry(file, 24, &(128 + 64u32).to_le_bytes()));
        assert!(
            message.contains("deflated data are cut short or damaged"),
            "{message}"
        );
    }
}

#[test]
fn damage_anywhere_in_the_data_is_noticed() {
    for deflated in [false, true] {
        let file = feature_file(&noise(20), 64, true, deflated);
        let good = regions(&file, 64, 100).unwrap();
        for at in (0..file.len()).step_by(37) {
            let mut file = file.clone();
            file[at] ^= 0x10;
            if let Ok(read) = regions(&file, 64, 100) {
                assert_eq!(read, good, "byte {at}");
            }
        }
    }
}
