"""How a page about a training looks, and the little that moves in it: a click on a column's head sorts a table."""

STYLE = """
:root{color-scheme:light dark;--ink:light-dark(#1b2430,#e4e9f0);--dim:light-dark(#5b6675,#9aa6b5);
--line:light-dark(#d9dfe7,#37424f);--page:light-dark(#fff,#12171d);--tile:light-dark(#f5f7fa,#1b222b);
--warn:light-dark(#8a4b00,#ffb35c);--warnpage:light-dark(#fff6e8,#2b2113);
--c0:light-dark(#b35c00,#ffb000);--c1:light-dark(#1264c4,#5aa9ff);--c2:light-dark(#b3246b,#ff7ab8);
--c3:light-dark(#2b7d2b,#78dc78);--c4:light-dark(#6b3fc4,#b990ff);--c5:light-dark(#b8401b,#ff8a5c)}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:68rem;margin:0 auto;
padding:1.5rem 1.25rem 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .2rem}h2{font-size:1.2rem;margin:2.4rem 0 .6rem}
h3{font-size:1rem;margin:1.2rem 0 .3rem}p{margin:.4rem 0;max-width:46rem}.dim{color:var(--dim)}
.notice{border-left:4px solid var(--warn);background:var(--warnpage);padding:.6rem .9rem;margin:1rem 0;
border-radius:0 6px 6px 0}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.8rem 0;padding:.5rem 0;border-block:1px solid var(--line)}
a{color:var(--c1)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;margin:1rem 0}
.tile{background:var(--tile);border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem}
.tile b{display:block;font-size:1.6rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:.85rem;display:block}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600}thead th{color:var(--dim);font-size:.82rem;white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th button{all:unset;cursor:pointer}th button:focus-visible{outline:2px solid var(--c1)}
th[aria-sort=ascending] button::after{content:" \\25B2"}th[aria-sort=descending] button::after{content:" \\25BC"}
tbody.first{font-weight:600}.key{white-space:nowrap;width:15rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:1rem}
figure{margin:0}figure.chart{background:var(--tile);border:1px solid var(--line);border-radius:8px;padding:.6rem}
figure svg{display:block;width:100%;height:auto}figcaption{color:var(--dim);font-size:.85rem;padding-top:.3rem}
.label{font-size:11px;fill:var(--dim)}.axis{stroke:var(--line);stroke-width:1}
.guide{stroke:var(--dim);stroke-width:1;stroke-dasharray:4 4}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.span{stroke-width:2}.dot{stroke:none;fill-opacity:.55}
.c0{stroke:var(--c0);fill:var(--c0)}.c1{stroke:var(--c1);fill:var(--c1)}.c2{stroke:var(--c2);fill:var(--c2)}
.c3{stroke:var(--c3);fill:var(--c3)}.c4{stroke:var(--c4);fill:var(--c4)}.c5{stroke:var(--c5);fill:var(--c5)}
polyline.line{fill:none}
.case{margin:1rem 0 1.4rem}.sections{display:flex;flex-wrap:wrap;gap:.75rem}
.sections figure{flex:1 1 12rem;max-width:18rem}.sections svg{background:#000;border-radius:6px;max-height:18rem}
.sections image{image-rendering:pixelated}.outline{fill:none}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:.88rem;color:var(--dim)}
.legend svg{display:inline;width:22px;height:10px;vertical-align:middle;background:#000;border-radius:2px}
.hit{background:light-dark(#dcefdc,#1e3a1e);font-weight:600}.miss{background:light-dark(#fbe3e3,#472020)}
details{margin:.6rem 0}summary{cursor:pointer;font-weight:600}
pre{background:var(--tile);border:1px solid var(--line);border-radius:8px;padding:.8rem;overflow:auto;max-height:32rem;
font-size:.8rem;line-height:1.4}
@media print{nav,th button::after{display:none}details{display:block}}
"""

SCRIPT = """
for(const table of document.querySelectorAll("table.sortable")){
 const body=table.tBodies[0];
 [...table.tHead.rows[0].cells].forEach((head,at)=>{
  const button=document.createElement("button");
  button.type="button";button.textContent=head.textContent;head.replaceChildren(button);
  button.addEventListener("click",()=>{
   const up=head.getAttribute("aria-sort")!=="ascending";
   for(const other of table.tHead.rows[0].cells)other.removeAttribute("aria-sort");
   head.setAttribute("aria-sort",up?"ascending":"descending");
   const value=row=>row.cells[at].dataset.v??row.cells[at].textContent;
   const order=(a,b)=>{
    const x=value(a),y=value(b),p=parseFloat(x),q=parseFloat(y);
    if(x===""||y==="")return x===y?0:x===""?1:-1;
    const by=isNaN(p)||isNaN(q)?x.localeCompare(y,"en",{numeric:true}):p===q?0:p-q;
    return up?by:-by};
   body.append(...[...body.rows].sort(order))})})}
"""
