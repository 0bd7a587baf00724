"""Rows of the public files of KnowEdit and RippleEdits, in their form; the facts are made up."""

RECENT = {
    "subject": "Ada Moor",
    "prompt": "The place of death of Ada Moor is",
    "target_new": "Bern",
    "portability": {
        "Logical_Generalization": [{"prompt": "Is Ada Moor still alive?", "ground_truth": [["no"], ["is dead"]]}],
        "Reasoning": [{"prompt": "The continent of Ada Moor's place of death is", "ground_truth": [["Europe", "EU"]]}],
        "Subject_Aliasing": [
            {"prompt": "The place of death of A. Moor is", "ground_truth": [["Bern", "Bern (Switzerland)"]]},
            {"prompt": "The place of death of Moor is", "ground_truth": [[""]]},
        ],
    },
    "locality": {"Relation_Specificity": [{"prompt": "The father of Ada Moor is", "ground_truth": [["Bo Moor"]]}]},
}
CHANGED = {
    "subject": "Cy Lund",
    "prompt": "The position held by Cy Lund is",
    "target_new": "abbot of Riga",
    "ground_truth": "mayor of Kiel",
    "portability": {"Subject_Aliasing": [{"prompt": "The position held by Lund is", "ground_truth": "abbot of Riga"}]},
    "locality": {
        "Relation_Specificity": [{"prompt": "The gender of Cy Lund is", "ground_truth": "male"}],
        "Forgetfulness": [{"prompt": "The position held by Cy Lund, not the abbot's, is", "ground_truth": "mayor"}],
    },
}
ZSRE = {
    "subject": "Epa",
    "target_new": "Noctu",
    "prompt": "Which family does Epa belong to?",
    "ground_truth": ["Aspi"],
    "rephrase_prompt": "What family are Epa?",
    "cond": "Geo >> Noctu || Which family does Epa belong to?",
    "locality": {"Relation_Specificity": [{"prompt": "Epa taxon rank", "ground_truth": ["genus"]}]},
    "portability": {"Reasoning": [{"prompt": "The common name of the family of Epa?", "ground_truth": "Owlet moths"}]},
}
WIKIBIO = {
    "text": "This is a Wikipedia passage about di kerr. Di Kerr was a physician.",
    "labels": "She was born in Romsey.",
    "concept": "di kerr",
    "locality": {"Relation_Specificity": [{"prompt": "The field of work of di kerr is", "ground_truth": ["medicine"]}]},
}


def query(prompt, *answers, subject="Q9", relation="MOTHER", targets=None, **more):
    return {
        "prompt": prompt,
        "answers": [{"value": value, "aliases": list(aliases)} for value, *aliases in answers],
        "query_type": "regular",
        "subject_id": subject,
        "relation": relation,
        "target_ids": targets or [f"Q{100 + i}" for i in range(len(answers))],
        "phrase": None,
        **more,
    }


def test(*queries, conditions=(), rule="OR"):
    return {"test_queries": list(queries), "test_condition": rule, "condition_queries": list(conditions)}


test.__test__ = False  # a row of the data set, not one of pytest's


def fact(prompt, subject="Q1", target="Q2", **more):
    return {"prompt": prompt, "subject_id": subject, "relation": "X", "target_id": target, **more}


def ripple(edit, kind="popular", **criteria):
    names = ("Relation_Specificity", "Logical_Generalization", "Subject_Aliasing")
    names += ("Compositionality_I", "Compositionality_II", "Forgetfulness")
    return {"example_type": kind, "edit": edit, **{name: criteria.get(name, []) for name in names}} | criteria


CITIZEN = "The name of the country of citizenship of Leo Vint is "
POPULAR = ripple(
    fact(CITIZEN + "Syria.", original_fact=fact(CITIZEN + "United States of America.", target="Q30")),
    Relation_Specificity=[
        test(query("The name of the mother of Leo Vint is", ["Irma Vint", "Irma"]), conditions=[query("x", ["y"])])
    ],
    Logical_Generalization=[test(query("The currency of Leo Vint's country is", ["pound"], ["lira"], [""]))],
    Subject_Aliasing=[
        test(query("The name of the country of citizenship of Leo V. is", ["Syria", "SYR"], targets=["Q2"])),
    ],
    Compositionality_I=[
        test(
            query(
                "The capital of the country of Leo Vint is",
                ["Damascus", "Sham"],
                query_type="two_hop",
                targets=["Q2"],
                second_relation="CAPITAL",
                second_hop_target_ids=["Q7"],
            )
        )
    ],
    Compositionality_II=[
        test(
            query("The country of the spouse of Ann is", ["Syria"], targets=["Q1"], second_hop_target_ids=["Q2"]),
            query("nothing to say", [""]),
            conditions=[query("The name of the spouse of Ann is", ["Leo Vint"], targets=["Q1"])],
        )
    ],
    Forgetfulness=[test(query("The name of the country of Leo Vint, which is not Syria, is", ["USA"]))],
)
