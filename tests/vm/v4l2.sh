#!/bin/sh
# Runs guest.py on a machine that has real V4L2 and ALSA devices: a virtual machine with the kernel's own vivid (a camera),
# v4l2loopback (a virtual camera) and snd-aloop (a microphone). Opt-in: some minutes of one core, no KVM, no root on the
# host, no kernel modules on the host. Debian 12 on amd64.
#
#   sudo apt install qemu-system-x86 busybox-static cpio kmod make gcc-12 ffmpeg
#   PYTHON=/path/to/venv/bin/python tests/vm/v4l2.sh [PART...]
#
# The guest sees the host's files read-only, so that it runs the same Python, the same packages and this checkout.
# WORK keeps the downloads (85 MB) and what was made of them; parts are those of guest.py, all of them by default.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
python=$(command -v "${PYTHON:-python3}")
work=${WORK:-${TMPDIR:-/tmp}/rtstyle-vm}
mkdir -p "$work/debs"
work=$(cd "$work" && pwd)
root=$work/root

if [ ! -e "$work/unpacked" ]; then
    version=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: linux-image-\(.*\)/\1/p' | head -n 1)
    (cd "$work/debs" && apt-get download "linux-image-$version" "linux-headers-$version" \
        "linux-headers-${version%-amd64}-common" "linux-kbuild-${version%%.0-*}" v4l2loopback-dkms)
    for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$root"; done
    touch "$work/unpacked"
fi
version=$(ls "$root/lib/modules")

if [ ! -e "$work/v4l2loopback.ko" ]; then
    headers=$root/usr/src/linux-headers-$version
    sed -i "s#include /usr/src#include $root/usr/src#" "$headers/Makefile"
    cp -r "$root"/usr/src/v4l2loopback-* "$work/module"
    make -C "$headers" M="$work/module" modules
    cp "$work/module/v4l2loopback.ko" "$work"
fi

# The first file system of the guest: busybox, modules, and an init that changes over to the host's files.
first=$work/first
rm -rf "$first"
mkdir -p "$first/bin" "$first/modules" "$first/host"
cp "$(command -v busybox)" "$first/bin/busybox"
depmod -b "$root" "$version"
number=100
for module in virtio_pci 9pnet_virtio 9p vivid snd-aloop; do
    modprobe -d "$root" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    cp "$file" "$first/modules/$number-$(basename "$file")"
    number=$((number + 1))
done
cp "$work/v4l2loopback.ko" "$first/modules/900-v4l2loopback.ko"
cat > "$first/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for file in /modules/*; do
    case \$file in
        *vivid.ko) options="n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0" ;;
        *v4l2loopback.ko) options="devices=2 video_nr=10,11 exclusive_caps=1,1 card_label=rtstyle,other" ;;
        *) options= ;;
    esac
    insmod \$file \$options || echo "RESULT fail: cannot load \$file"
done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro host /host
mount -t tmpfs run /host/run
mount --bind /dev /host/dev
mount --bind /proc /host/proc
mount --bind /sys /host/sys
chroot /host /usr/bin/env -i HOME=/run TMPDIR=/run XDG_CACHE_HOME=/run/cache PATH=/usr/local/bin:/usr/bin:/bin \\
    PYTHONPATH=$repository PYTHONDONTWRITEBYTECODE=1 $python $here/guest.py $*
poweroff -f
INIT
chmod +x "$first/init"
(cd "$first" && find . | cpio -o -H newc --quiet | gzip -1 > "$work/first.gz")

# Nehalem: numpy and OpenVINO want SSE 4.2, and no more can be emulated without mistakes.
# QEMU ends well whatever the guest did: the guest's own lines tell.
log=$work/console.log
timeout "${LIMIT:-1800}" qemu-system-x86_64 -machine q35 -cpu Nehalem -smp 2 -m 3072 -nographic -no-reboot -nic none \
    -kernel "$root/boot/vmlinuz-$version" -initrd "$work/first.gz" -append "console=ttyS0 quiet panic=-1" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap < /dev/null \
    | sed -u 's/\r//g' | tee "$log"
if grep -q '^RESULT fail' "$log" || ! grep -q '^RESULT end' "$log"; then
    echo "something failed: $log"
    exit 1
fi
