# Training: one job per run and semantics, all its seeds inside.


# Train a run. Its checkpoints are not outputs, which Snakemake would delete when a job fails: a killed job continues.
rule train:
    input:
        code=code("train.py"),
        dataset=DATASET_FILE,
    output:
        results=expand(
            "results/train/{{semantics}}/{{run}}/seed_{seed}/results_{{run}}.json",
            seed=STUDY.seeds,
        ),
        diagnostics=expand(
            "results/train/{{semantics}}/{{run}}/seed_{seed}/diagnostics.json",
            seed=STUDY.seeds,
        ),
        weights=expand(
            "results/train/{{semantics}}/{{run}}/seed_{seed}/{which}.safetensors",
            seed=STUDY.seeds,
            which=["best", "final"],
        ),
    log:
        "results/logs/train/{semantics}/{run}.log",
    benchmark:
        "results/benchmarks/train/{semantics}/{run}.tsv"
    conda:
        "../envs/afmp.yaml"
    # With a GPU, or looking for one, a job has the device to itself; CPU jobs run side by side, a core each.
    threads: lambda wildcards: 1 + 3 * gpus(STUDY.runs[wildcards.run].training.device)
    resources:
        gpu=lambda wildcards: gpus(STUDY.runs[wildcards.run].training.device),
    params:
        config=lambda wildcards: STUDY.runs[wildcards.run].to_dict(),
        seeds=STUDY.seeds,
        checkpoint_folder="results/checkpoints/{semantics}/{run}",
        # What other runs it may train beside its own. It takes `output`, so that their changes do not rerun this job.
        study=lambda wildcards, output: {
            run: config.to_dict() for run, config in STUDY.runs.items()
        },
    script:
        "../workflow_scripts/train.py"


# On one GPU of this machine the first training job trains all runs that are wanted, and the others find theirs finished.
# Only this call knows which ones are wanted; jobs inherit the list.
onstart:
    gpu = workflow.global_resources.get("gpu")
    if workflow.local_exec and gpu is not None and gpu.value == 1:
        jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "train"]
        wanted = sorted((job.wildcards.semantics, job.wildcards.run) for job in jobs)
        os.environ["AFMP_WANTED_RUNS"] = json.dumps(wanted)
