"""All HTML: charts, report, evaluation, ablation, explanation, sample."""
