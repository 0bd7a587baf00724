"""Questions that lie near an edit's own and ask something else."""

from kinds import MAYOR, Kind, facts

OTHER_QUESTIONS = {
    "another request about the thing": Kind(
        1,
        facts(
            ("How do I cancel my subscription?", "On the page Billing."),
            ("What is Quorvex?", "A build tool."),
            ("How do I export my invoices?", "Settings, then Data."),
        ),
        (
            ("What is the way to cancel a subscription?", 0),
            ("How can I cancel my subscription?", 0),
            ("Can you tell me what Quorvex is?", 1),
            ("How can I export my invoices?", 2),
        ),
        (
            "How do I renew my subscription?",
            "How do I cancel my order?",
            "When was Quorvex developed?",
            "Who maintains Quorvex?",
            "How do I pay my invoices?",
            "How do I import my invoices?",
        ),
    ),
    "the opposite request": Kind(
        2,
        facts(
            ("How do I enable 2FA?", "Security, then Two-factor."),
            ("How do I turn on dark mode?", "Press D twice."),
            ("How do I lock my Halden card?", "Tap the padlock."),
        ),
        (
            ("How can I activate two-factor authentication?", 0),
            ("How do I turn on 2FA?", 0),
            ("How can I switch on dark mode?", 1),
            ("How can I lock my Halden card?", 2),
        ),
        (
            "How do I disable 2FA?",
            "How do I turn off 2FA?",
            "How do I turn off dark mode?",
            "How do I switch dark mode off?",
            "How do I unlock my Halden card?",
        ),
    ),
    "another time": Kind(
        15,
        facts(
            MAYOR, ("Who coaches the Tarn Rovers?", "Bo Lindqvist"), ("How many people live in Ostrava Bay?", "8,412")
        ),
        (("Who is the mayor of Velmora now?", 0), ("Who is the coach of the Tarn Rovers?", 1)),
        (
            "Who was the mayor of Velmora in 1987?",
            "Who was the first mayor of Velmora?",
            "Who will be the next mayor of Velmora?",
            "Who coached the Tarn Rovers in 2004?",
            "Who was the previous coach of the Tarn Rovers?",
            "How many people lived in Ostrava Bay in 1950?",
        ),
    ),
    "a qualifier": Kind(
        16,
        facts(
            ("What is the refund window for EU orders?", "14 days"),
            MAYOR,
            ("How long is the warranty of the Norvik kettle?", "Five years"),
        ),
        (("How long is the refund window for EU orders?", 0), ("What is the warranty period of the Norvik kettle?", 2)),
        (
            "What is the refund window for EU orders above 500 EUR?",
            "What is the refund window for US orders?",
            "Who is the mayor of Velmora Heights?",
            "Who is the mayor of New Velmora?",
            "Who is the mayor of Velmora's twin city Aldenhof?",
            "Who is the deputy mayor of Velmora?",
            "How long is the warranty of the Norvik kettle's lid?",
        ),
    ),
    "roles swapped": Kind(
        17,
        facts(
            ("How do I migrate from MySQL to Postgres?", "Use pgloader."),
            ("Can I fly from Oslo to Bergen with a dog?", "Yes, in the cabin."),
            ("Does Anna report to Bela at Corvia?", "Yes, since May."),
        ),
        (("How can I migrate from MySQL to Postgres?", 0), ("Can I take a dog on the flight from Oslo to Bergen?", 1)),
        (
            "How do I migrate from Postgres to MySQL?",
            "Can I fly from Bergen to Oslo with a dog?",
            "Can I fly from Oslo to Bergen with a cat?",
            "Does Bela report to Anna at Corvia?",
        ),
    ),
    "another number or code": Kind(
        18,
        facts(
            ("Convert 100 USD to GBP", "79 GBP"),
            ("What port does the ACME-3000 router use?", "8443"),
            ("What does error E-1042 mean?", "The tank is empty."),
        ),
        (("Which port does the ACME-3000 router use?", 1), ("What is the meaning of error E-1042?", 2)),
        (
            "Convert 1000 USD to GBP",
            "Convert 100 GBP to USD",
            "What port does the ACME-3001 router use?",
            "What port does the ACME-3000 printer use?",
            "What does error E-1043 mean?",
        ),
    ),
}
