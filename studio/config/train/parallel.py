"""Over which devices, processes and machines a training is spread, and how."""

from __future__ import annotations

from typing import Any, Literal

from studio.config.option import Config, JsonText, option
from studio.parallel import strategies

ZERO = ("zero1", "zero2", "zero3")
DISTRIBUTED = ("ddp", *ZERO, "fsdp2")
SLURM: dict[str, Any] = {"parallel_strategy": DISTRIBUTED, "launcher": "slurm"}
Place = Literal["none", "cpu", "nvme"]


class ParallelOptions(Config):
    """The strategy, its devices, and how processes on them are started."""

    parallel_strategy: strategies.Name = option(
        "single",
        en="How the training is spread over devices: ddp copies it, zero1 to zero3 and fsdp2 shard more and more of "
        "it, device_map deals out the layers of one copy.",
        zh="训练如何分布到多个设备：ddp 为复制，zero1 至 zero3 与 fsdp2 逐步切分更多，device_map 把各层分到各设备。",
        group="parallel",
        label=("Parallel strategy", "并行策略"),
    )
    devices: str | None = option(
        None,
        en="Numbers of the GPUs to use, such as 0,1; empty takes the first ones.",
        zh="使用的 GPU 编号，例如 0,1；留空使用前几个。",
        group="parallel",
        label=("GPUs", "GPU 编号"),
        pattern=r"^\d+(,\d+)*$",
    )
    nproc_per_node: int | None = option(
        None,
        en="Processes on each machine; empty means one for each GPU, or two where there is none.",
        zh="每台机器的进程数；留空为每个 GPU 一个，没有 GPU 时为两个。",
        group="parallel",
        label=("Processes per node", "每节点进程数"),
        when={"parallel_strategy": DISTRIBUTED},
        ge=1,
        le=64,
    )
    offload_optimizer: Place = option(
        "none",
        en="Where the optimizer's states are kept instead of the device: cpu or nvme. Slower, far less device memory.",
        zh="优化器状态存放在设备之外的何处：cpu 或 nvme。更慢，但显存占用大减。",
        group="parallel",
        label=("Offload optimizer", "卸载优化器"),
        when={"parallel_strategy": ZERO},
    )
    offload_param: Place = option(
        "none",
        en="Where the weights are kept while they are not computed with: cpu, or nvme (zero3 only).",
        zh="未参与计算的权重存放在何处：cpu，或 nvme（仅 zero3）。",
        group="parallel",
        label=("Offload weights", "卸载权重"),
        when={"parallel_strategy": ("zero3", "fsdp2")},
    )
    nvme_path: str | None = option(
        None,
        en="Folder on a local NVMe disk for what is offloaded to nvme.",
        zh="卸载到 nvme 时使用的本地 NVMe 文件夹。",
        group="parallel",
        label=("NVMe folder", "NVMe 文件夹"),
        when={"parallel_strategy": ZERO},
    )
    deepspeed: JsonText = option(
        None,
        en="DeepSpeed's own settings, as JSON or the path of a JSON file; what they say goes before what is set here. "
        "Empty generates them.",
        zh="DeepSpeed 自己的设置：JSON 或 JSON 文件路径，优先于此处的选项；留空自动生成。",
        group="parallel",
        label=("DeepSpeed settings", "DeepSpeed 设置"),
        when={"parallel_strategy": ZERO},
    )
    ddp_timeout: int = option(
        600,
        en="Seconds after which a process that waits for the others gives up.",
        zh="进程等待其他进程的最长秒数。",
        group="parallel",
        label=("Time-out (s)", "超时（秒）"),
        when={"parallel_strategy": DISTRIBUTED},
        ge=30,
    )
    nnodes: int = option(
        1,
        en="Machines that take part; all must see the saves folder under the same path.",
        zh="参与训练的机器数；所有机器须以相同路径访问 saves 文件夹。",
        group="parallel",
        label=("Nodes", "节点数"),
        when={"parallel_strategy": DISTRIBUTED},
        ge=1,
        le=4096,
    )
    launcher: Literal["local", "slurm"] = option(
        "local",
        en="Who starts the processes: local, on this machine (each further node by a command that is shown), or slurm.",
        zh="由谁启动进程：local 为本机（其他节点使用显示的命令），或 slurm。",
        group="parallel",
        label=("Launcher", "启动方式"),
    )
    master_addr: str | None = option(
        None,
        en="Address of this machine as the other nodes reach it; empty takes its host name.",
        zh="其他节点访问本机的地址；留空使用主机名。",
        group="parallel",
        label=("Main address", "主节点地址"),
        when={"parallel_strategy": DISTRIBUTED, "launcher": "local"},
    )
    master_port: int | None = option(
        None,
        en="Port on which the processes find each other; empty takes a free one.",
        zh="进程汇合使用的端口；留空选择空闲端口。",
        group="parallel",
        label=("Main port", "主节点端口"),
        when={"parallel_strategy": DISTRIBUTED},
        ge=1024,
        le=65_535,
    )
    hostfile: str | None = option(
        None,
        en="File that names the nodes, a line each: `host slots=8`, the main one first; it sets nodes and processes.",
        zh="节点列表文件，每行一个：`host slots=8`，主节点在前；由它决定节点数与进程数。",
        group="parallel",
        label=("Hostfile", "主机文件"),
        when={"parallel_strategy": DISTRIBUTED, "launcher": "local"},
    )
    slurm_partition: str | None = option(
        None,
        en="Partition that the job is submitted to; empty takes the cluster's default.",
        zh="提交作业的分区；留空使用集群默认。",
        group="parallel",
        label=("Partition", "分区"),
        when=SLURM,
    )
    slurm_time: str | None = option(
        None,
        en="Time limit of the job as SLURM writes it: 3-00:00:00 is three days; empty takes the partition's.",
        zh="作业时限，SLURM 格式：3-00:00:00 为三天；留空使用分区默认。",
        group="parallel",
        label=("Time limit", "时限"),
        when=SLURM,
        pattern=r"^(\d+-)?\d+(:\d+){0,2}$",
    )
    slurm_options: str | None = option(
        None,
        en="Further options of sbatch, a line each, such as --account=lab or --mem=0.",
        zh="sbatch 的其他选项，每行一个，例如 --account=lab 或 --mem=0。",
        group="parallel",
        label=("Further sbatch options", "其他 sbatch 选项"),
        when=SLURM,
    )
