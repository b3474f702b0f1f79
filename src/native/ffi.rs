//! The C interface of the C++ in this folder. `mcan.h` declares and describes it. A test compares the two files, and
//! the C++ compiler checks the definitions against `mcan.h`, so a change on one side only is found.

use std::ffi::{c_char, c_void};
pub(super) use torch_sys::C_tensor as RawTensor;

/// Declares types of C++ objects that Rust handles by pointer only.
macro_rules! opaque {
    ($($name:ident),*) => {$(
        #[repr(C)]
        pub(super) struct $name {
            _opaque: [u8; 0],
        }
    )*};
}

opaque!(RawGenerator, RawEvent, RawStore, RawGroup, RawReducer);

/// Frees memory that a tensor has adopted, given its owner.
pub(super) type FreeFunction = extern "C" fn(*mut c_void);

unsafe extern "C" {
    pub(super) fn mcan_free(text: *mut c_char);
    pub(super) fn mcan_cpu_rounds_to_bf16() -> bool;
    pub(super) fn mcan_linear(
        out: *mut *mut RawTensor,
        x: *const RawTensor,
        weight: *const RawTensor,
        bias: *const RawTensor,
        activate: bool,
        p: f64,
        seed: u64,
        stream: u64,
        bfloat16: bool,
    ) -> *mut c_char;
    pub(super) fn mcan_dropout(
        out: *mut *mut RawTensor,
        x: *const RawTensor,
        p: f64,
        seed: u64,
        stream: u64,
    ) -> *mut c_char;
    pub(super) fn mcan_residual_norm(
        out: *mut *mut RawTensor,
        x: *const RawTensor,
        s: *const RawTensor,
        a: *const RawTensor,
        b: *const RawTensor,
        p: f64,
        seed: u64,
        stream: u64,
    ) -> *mut c_char;
    pub(super) fn mcan_attention(
        out: *mut *mut RawTensor,
        kv: *const RawTensor,
        q: *const RawTensor,
        query_starts: *const RawTensor,
        key_starts: *const RawTensor,
        present: *const RawTensor,
        heads: i64,
        p: f64,
        seed: u64,
        stream: u64,
    ) -> *mut c_char;
    pub(super) fn mcan_varlen_attention(
        out: *mut *mut RawTensor,
        kv: *const RawTensor,
        q: *const RawTensor,
        query_starts: *const RawTensor,
        key_starts: *const RawTensor,
        present: *const RawTensor,
        longest_query: i64,
        longest_key: i64,
        heads: i64,
        p: f64,
    ) -> *mut c_char;
    pub(super) fn mcan_pad_rows(
        out: *mut *mut RawTensor,
        rows: *const RawTensor,
        slots: *const RawTensor,
        total: i64,
    ) -> *mut c_char;
    pub(super) fn mcan_unpad_rows(
        out: *mut *mut RawTensor,
        grid: *const RawTensor,
        slots: *const RawTensor,
    ) -> *mut c_char;
    pub(super) fn mcan_clear_grads(params: *const *const RawTensor, count: i64) -> *mut c_char;
    pub(super) fn mcan_fused_adam(
        params: *const *const RawTensor,
        grads: *const *const RawTensor,
        exp_avgs: *const *const RawTensor,
        exp_avg_sqs: *const *const RawTensor,
        count: i64,
        step: *const RawTensor,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
    ) -> *mut c_char;
    pub(super) fn mcan_join_and_cast(
        out: *mut *mut RawTensor,
        params: *const *const RawTensor,
        counts: *const i64,
        groups: i64,
        bfloat16: bool,
    ) -> *mut c_char;
    pub(super) fn mcan_new_generator(out: *mut *mut RawGenerator, seed: u64) -> *mut c_char;
    pub(super) fn mcan_free_generator(generator: *mut RawGenerator);
    pub(super) fn mcan_draw_uniform(
        generator: *mut RawGenerator,
        tensor: *const RawTensor,
        from: f64,
        to: f64,
    ) -> *mut c_char;
    pub(super) fn mcan_draw_normal(
        generator: *mut RawGenerator,
        tensor: *const RawTensor,
        mean: f64,
        std: f64,
    ) -> *mut c_char;
    pub(super) fn mcan_prepare_cuda(tf32: bool) -> *mut c_char;
    pub(super) fn mcan_seed(gpu: i64, seed: u64) -> *mut c_char;
    pub(super) fn mcan_free_memory(gpu: i64, bytes: *mut u64) -> *mut c_char;
    pub(super) fn mcan_peak_memory(gpu: i64, bytes: *mut u64) -> *mut c_char;
    pub(super) fn mcan_send(
        out: *mut *mut RawTensor,
        bytes: *const c_void,
        count: i64,
        gpu: i64,
        pin: bool,
    ) -> *mut c_char;
    pub(super) fn mcan_adopt(
        out: *mut *mut RawTensor,
        bytes: *mut c_void,
        count: i64,
        owner: *mut c_void,
        free: FreeFunction,
    ) -> *mut c_char;
    pub(super) fn mcan_fetch(out: *mut *mut RawTensor, tensor: *const RawTensor) -> *mut c_char;
    pub(super) fn mcan_take_side_stream(gpu: i64) -> *mut c_char;
    pub(super) fn mcan_record_event(out: *mut *mut RawEvent, gpu: i64) -> *mut c_char;
    pub(super) fn mcan_free_event(event: *mut RawEvent);
    pub(super) fn mcan_stream_wait(event: *mut RawEvent) -> *mut c_char;
    pub(super) fn mcan_wait_for_event(event: *mut RawEvent) -> *mut c_char;
    pub(super) fn mcan_share_with_this_stream(tensor: *const RawTensor) -> *mut c_char;
    pub(super) fn mcan_prepare_engine();
    pub(super) fn mcan_store_here(out: *mut *mut RawStore) -> *mut c_char;
    pub(super) fn mcan_store_at(
        out: *mut *mut RawStore,
        host: *const c_char,
        port: u16,
        serve: bool,
        size: i64,
        prefix: *const c_char,
        timeout_ms: i64,
    ) -> *mut c_char;
    pub(super) fn mcan_free_store(store: *mut RawStore);
    pub(super) fn mcan_store_set(
        store: *mut RawStore,
        key: *const c_char,
        text: *const c_char,
    ) -> *mut c_char;
    pub(super) fn mcan_store_get(
        out: *mut *mut c_char,
        store: *mut RawStore,
        key: *const c_char,
    ) -> *mut c_char;
    pub(super) fn mcan_group_join(
        out: *mut *mut RawGroup,
        store: *mut RawStore,
        rank: i32,
        size: i32,
        gpu: i64,
        interface: *const c_char,
        address: *const c_char,
        timeout_ms: i64,
    ) -> *mut c_char;
    pub(super) fn mcan_free_group(group: *mut RawGroup);
    pub(super) fn mcan_all_reduce(group: *mut RawGroup, tensor: *const RawTensor) -> *mut c_char;
    pub(super) fn mcan_all_gather(
        out: *mut *mut RawTensor,
        group: *mut RawGroup,
        tensor: *const RawTensor,
    ) -> *mut c_char;
    pub(super) fn mcan_broadcast(
        group: *mut RawGroup,
        tensors: *const *const RawTensor,
        count: i64,
    ) -> *mut c_char;
    pub(super) fn mcan_group_check(group: *mut RawGroup) -> *mut c_char;
    pub(super) fn mcan_new_reducer(
        out: *mut *mut RawReducer,
        group: *mut RawGroup,
        params: *const *const RawTensor,
        count: i64,
    ) -> *mut c_char;
    pub(super) fn mcan_free_reducer(reducer: *mut RawReducer);
    pub(super) fn mcan_reducer_expect(reducer: *mut RawReducer) -> *mut c_char;
}

#[cfg(test)]
#[link(name = "mcan_native_testing", kind = "static")]
unsafe extern "C" {
    pub(super) fn mcan_register_reference_kernels() -> *mut c_char;
    pub(super) fn mcan_tf32() -> i32;
    pub(super) fn mcan_begin_counting() -> *mut c_char;
    pub(super) fn mcan_end_counting() -> *mut c_char;
}

#[cfg(test)]
mod tests {
    /// The text with its comments removed, up to `end`.
    fn code<'a>(text: &'a str, end: &str) -> String {
        let code = |line: &'a str| line.split("//").next().unwrap_or_default();
        let text = text.split(end).next().unwrap_or_default();
        text.lines().map(code).collect::<Vec<_>>().join(" ")
    }

    /// The Rust type of a C type: `const T *const *` is `*const *const T`.
    fn rust_type(c: &str) -> String {
        let spaced = c.replace('*', " * ");
        let mut words = spaced.split_whitespace().peekable();
        let mut constant = words.next_if_eq(&"const").is_some();
        let mut rust = match words.next().expect("a type") {
            "void" => "c_void",
            "char" => "c_char",
            "bool" => "bool",
            "double" => "f64",
            "uint16_t" => "u16",
            "int32_t" => "i32",
            "int64_t" => "i64",
            "uint64_t" => "u64",
            "mcan_tensor" => "RawTensor",
            "mcan_generator" => "RawGenerator",
            "mcan_event" => "RawEvent",
            "mcan_store" => "RawStore",
            "mcan_group" => "RawGroup",
            "mcan_reducer" => "RawReducer",
            "mcan_free_function" => "FreeFunction",
            other => panic!("{c}: a type {other} that this test does not know"),
        }
        .to_owned();
        for word in words {
            match word {
                "const" => constant = true,
                "*" => {
                    let pointee = if constant { "const" } else { "mut" };
                    (rust, constant) = (format!("*{pointee} {rust}"), false);
                }
                other => panic!("{c}: {other} is not understood"),
            }
        }
        rust
    }

    /// The declarations of mcan.h, each as Rust declares it.
    fn declared_in_c() -> Vec<String> {
        let code = code(include_str!("mcan.h"), "#endif // the end");
        let declarations = code.split(';').filter_map(|text| {
            let (head, arguments) = text.split_once('(')?;
            let at = head.rfind("mcan_").filter(|_| !text.contains("typedef"))?;
            // What precedes the last directive or brace belongs to something else.
            let result = head[..at].rsplit(['{', '}', '"']).next()?;
            let arguments = arguments.trim().trim_end_matches(')');
            let argument = |argument: &str| {
                let (c, name) = argument
                    .trim()
                    .rsplit_once([' ', '*'])
                    .expect("type and name");
                let stars = &argument.trim()[c.len()..argument.trim().len() - name.len()];
                format!("{name}: {}", rust_type(&format!("{c}{stars}")))
            };
            let arguments: Vec<String> = match arguments {
                "void" => Vec::new(),
                some => some.split(',').map(argument).collect(),
            };
            let result = match result.trim() {
                "void" => String::new(),
                c => format!(" -> {}", rust_type(c)),
            };
            Some(format!(
                "fn {}({}){result}",
                head[at..].trim(),
                arguments.join(", ")
            ))
        });
        declarations.collect()
    }

    /// The declarations of this file, on one line each.
    fn declared_in_rust() -> Vec<String> {
        let code = code(include_str!("ffi.rs"), "mod tests");
        let declarations = code.split("pub(super) fn ").skip(1).map(|text| {
            let text = text.split(';').next().unwrap_or_default();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("fn {text}").replace("( ", "(").replace(", )", ")")
        });
        declarations.collect()
    }

    #[test]
    fn rust_declares_the_functions_of_the_header() {
        let (c, rust) = (declared_in_c(), declared_in_rust());
        assert!(c.len() > 40, "the header was read: {c:?}");
        for (c, rust) in c.iter().zip(&rust) {
            assert_eq!(c, rust, "mcan.h (left) and ffi.rs (right)");
        }
        assert_eq!(c.len(), rust.len(), "functions of mcan.h and of ffi.rs");
    }

    #[test]
    fn types_of_c_have_types_of_rust() {
        assert_eq!(
            rust_type("const mcan_tensor *const *"),
            "*const *const RawTensor"
        );
        assert_eq!(rust_type("mcan_tensor **"), "*mut *mut RawTensor");
        assert_eq!(rust_type("const char *"), "*const c_char");
        assert_eq!(rust_type("int64_t"), "i64");
    }
}
