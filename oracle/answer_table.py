"""Writes tests/fixtures/answer_table.json: pairs of an expected answer and a stated one by kind, with what math-verify says.

SAME has answers of one value, the expected one first, OTHER different ones. Each stated answer is put into \\boxed{} and judged by
trl.rewards.accuracy_reward, which is math-verify as TRL sets it up (LatexExtractionConfig for the completion, both configs for the
solution). Where math-verify is wrong the pair stands in APART with the reason; the script fails if a pair that it judges otherwise is
not there, or stands there in vain.

    python oracle/answer_table.py
"""

import json
import logging
import os
import sys

from trl.rewards import accuracy_reward

logging.disable(logging.CRITICAL)
OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "answer_table.json")

SAME = r"""
# number
7 | 7 | 7.0 | 07 | +7 | \text{7} | \mathrm{7} | 7.00 | \left(7\right)
-12 | -12 | -12.0 | - 12 | \left(-12\right)
3.25 | 3.25 | 3.250 | 03.25
0.05 | 0.05 | .05 | 0.050
12345 | 12345 | 12,345 | 12{,}345 | 12345.0
1000000 | 1000000 | 1,000,000 | 10^6 | 10^{6} | 1{,}000{,}000
# fraction
\frac{3}{8} | \frac{3}{8} | \dfrac{3}{8} | \tfrac{3}{8} | 3/8 | \frac38 | 0.375 | \frac{6}{16} | \frac{-3}{-8} | \left(\frac{3}{8}\right) | 3 \div 8
\frac{1}{2} | 0.5 | \frac{2}{4} | 1/2 | .5 | \frac 12 | \frac{1}2 | \frac1{2}
-\frac{2}{5} | \frac{-2}{5} | \frac{2}{-5} | -2/5 | -0.4 | -\dfrac{2}{5} | -\frac{4}{10}
\frac{7}{3} | 7/3 | \frac{14}{6} | \frac{7}{3}
\frac{1}{3} | 1/3 | \frac{2}{6} | 0.333333 | 0.33333333
\frac{22}{7} | \frac{22}{7} | 22/7 | \frac{44}{14}
\frac{1}{1000} | 0.001 | 10^{-3} | 1/1000
\frac{x}{2} | \frac{1}{2}x | x/2 | 0.5x | \frac{x}{2}
# mixed
2\frac{1}{2} | \frac{5}{2} | 2\frac{1}{2} | 2\dfrac{1}{2} | 5/2 | 2\frac{2}{4}
1\frac{3}{4} | \frac{7}{4} | 7/4 | 1\frac{3}{4}
-1\frac{1}{3} | -\frac{4}{3} | -1\frac{1}{3}
\frac{17}{5} | 3\frac{2}{5} | \frac{34}{10}
# percent
25\% | 25\% | 25 | 0.25 | 25.0\% | 25 \%
12.5\% | 12.5\% | 0.125 | 12.50\%
40 | 40\% | 40 \%
0.07 | 7\% | 0.07
150\% | 150\% | 1.5 | 150
5\text{ percent} | 5\% | 5 | 0.05
# unit
12\text{ cm} | 12 | 12\text{ cm} | 12\,\text{cm} | 12 \text{ cm} | 12\mathrm{ cm}
45 | 45\text{ miles} | 45\text{ apples} | 45\text{ hours} | 45\text{ kg} | 45 \text{ students}
20\text{ cm}^2 | 20 | 20\text{ cm}^2 | 20\text{ cm}^{2}
3.5\text{ m} | 3.5 | 3.5 \text{ m} | 3.50\text{ m}
9.8\text{ m/s}^2 | 9.8 | 9.8\text{ m/s}^2
\frac{3}{4}\text{ cups} | \frac{3}{4} | 0.75 | 3/4
2\sqrt{3}\text{ cm} | 2\sqrt{3} | 2\sqrt{3}\text{ cm} | 2\sqrt{3} \text{ centimeters}
8\pi\text{ square inches} | 8\pi | 8\pi\text{ square inches}
60\text{ mph} | 60 | 60\text{ mph}
# currency
\$18 | 18 | \$18 | \$18.00 | 18\text{ dollars}
\$1{,}250 | 1250 | \$1,250 | 1,250
0.75 | \$0.75 | \$.75
# degree
60^\circ | 60 | 60^\circ | 60^{\circ} | 60\text{ degrees}
120 | 120^\circ | 120^{\circ}
22.5^\circ | 22.5 | 22.5^\circ | \frac{45}{2}
# root
\sqrt{5} | \sqrt{5} | \sqrt5 | 5^{1/2} | 5^{\frac{1}{2}} | \sqrt{ 5 } | 2.2360679775
2\sqrt{3} | \sqrt{12} | 2 \sqrt{3} | 2\cdot\sqrt{3} | \sqrt{4}\sqrt{3} | 3.4641016151 | \frac{6}{\sqrt{3}}
\frac{\sqrt{2}}{2} | \frac{1}{\sqrt{2}} | \sqrt{\frac{1}{2}} | \sqrt{0.5} | \frac{\sqrt2}{2} | 2^{-1/2} | \sqrt{2}/2
5\sqrt{2} | \sqrt{50} | 5\sqrt2 | \frac{10}{\sqrt{2}}
3 | \sqrt{9} | \sqrt[3]{27} | \sqrt{3}\cdot\sqrt{3} | 27^{1/3}
\sqrt[3]{2} | \sqrt[3]{2} | 2^{1/3} | 2^{\frac13}
1+\sqrt{2} | \sqrt{2}+1 | \sqrt{3+2\sqrt{2}} | \frac{1}{\sqrt{2}-1}
\frac{-1+\sqrt{5}}{2} | \frac{\sqrt{5}-1}{2} | \frac{2}{1+\sqrt{5}} | -\frac12+\frac{\sqrt5}{2}
2-\sqrt{3} | -\sqrt{3}+2 | \frac{1}{2+\sqrt{3}}
6\sqrt{6} | \sqrt{216} | 6 \sqrt{6}
\sqrt{10}-3 | -3+\sqrt{10} | \frac{1}{\sqrt{10}+3}
# power
2^{10} | 1024 | 2^{10} | 4^5 | 32^2
10^{-4} | 0.0001 | \frac{1}{10000} | \frac{1}{10^4}
3.2 \times 10^5 | 320000 | 3.2\cdot 10^5 | 32 \times 10^4
6.02 \times 10^{23} | 6.02\times10^{23} | 6.02 \cdot 10^{23} | 60.2\times 10^{22}
2^{100} | 1267650600228229401496703205376 | 4^{50} | 2\cdot 2^{99}
e^2 | e^2 | e^{2} | e\cdot e
2^{2018} | 2^{2018} | 4^{1009} | 2 \cdot 2^{2017}
\frac{1}{2^{50}} | 2^{-50} | 0.5^{50}
x^{12} | x^{12} | (x^3)^4 | x^{10}x^2
# pi
3\pi | 3\pi | 3 \pi | 3\cdot\pi | \pi\cdot 3 | \frac{6\pi}{2}
\frac{\pi}{4} | \frac{\pi}{4} | \pi/4 | \frac14\pi | 0.25\pi | \frac{1}{4} \pi | \frac{2\pi}{8}
\frac{5\pi}{6} | \frac{5\pi}{6} | \frac{5}{6}\pi | 5\pi/6
16\pi-8 | 8(2\pi-1) | -8+16\pi
\pi | 3.14159265 | 3.141593
4\pi^2 | 4\pi^2 | (2\pi)^2
\frac{4}{3}\pi | \frac{4\pi}{3} | 4\pi/3
# log
\ln 2 | \ln 2 | \ln{2} | \ln(2) | \frac{1}{2}\ln 4 | -\ln\frac12
2 | \log_2 4 | \log_{3} 9 | \log 100 | \ln e^2 | \log_{10}{100}
\log_2 3 | \frac{\ln 3}{\ln 2} | \log_2 3 | \log_{2}{3} | \log_4 9
\frac{\log 5}{\log 3} | \log_3 5 | \frac{\ln 5}{\ln 3}
# trig
\frac{\sqrt{3}}{2} | \sin\frac{\pi}{3} | \cos \frac{\pi}{6} | \sin(\frac{\pi}{3})
1 | \tan\frac{\pi}{4} | \sin \frac{\pi}{2}
\frac{\pi}{6} | \arcsin \frac12 | \arctan\frac{1}{\sqrt{3}} | \arcsin(0.5)
\sin 2x | 2\sin x\cos x | \sin(2x)
\cos^2 x | 1-\sin^2 x | (\cos x)^2
# factorial
120 | 5! | \frac{6!}{6}
\binom{10}{3} | 120 | \binom{10}{7} | \frac{10!}{3!7!}
\frac{1}{6} | \frac{1}{3!}
# set
\{1,2,3\} | \{1,2,3\} | \{3,2,1\} | \{1, 2, 3\} | \left\{1,2,3\right\} | 1,2,3
\{-1, \frac{1}{2}\} | \{-1,0.5\} | \{\frac{1}{2},-1\} | \{0.5, -1\}
\{\sqrt{2},-\sqrt{2}\} | \{-\sqrt{2},\sqrt{2}\} | \pm\sqrt{2}
\{0\} | \{0\} | 0
\emptyset | \emptyset | \{\}
\{a,b\} | \{b,a\} | \{a,b\}
# list
2, 3 | 2,3 | 3,2 | 2 \text{ and } 3 | \{2,3\} | 3, 2 | 2\text{ or }3
-1, 5 | 5,-1 | -1,5 | x=-1, x=5 | x=5\text{ or }x=-1
1, 4, 9 | 1,4,9 | 9,4,1 | 1, 4, \text{ and } 9
\frac{1}{2}, -3 | -3, 0.5 | 0.5,-3 | -3,\frac{1}{2}
x=2 \text{ or } x=3 | 2,3 | x=3 \text{ or } x=2 | x=2, x=3
# sign
\pm 5 | \pm 5 | 5,-5 | -5, 5 | x=\pm 5 | \{-5,5\}
3\pm\sqrt{2} | 3+\sqrt{2},3-\sqrt{2} | 3\pm\sqrt{2} | 3-\sqrt{2}, 3+\sqrt{2}
\frac{1\pm\sqrt{5}}{2} | \frac{1\pm\sqrt{5}}{2} | \frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}
# tuple
(3,4) | (3,4) | (3, 4) | \left(3,4\right) | (3.0,4) | 3,4
(1,-2,5) | (1,-2,5) | (1, -2, 5) | \left( 1, -2, 5 \right) | (1,-2,\frac{10}{2})
(\frac{1}{2},\sqrt{3}) | (0.5,\sqrt{3}) | \left(\frac12,\sqrt3\right) | (1/2, \sqrt{3})
(a,b) | (a,b) | (a, b)
(x,y)=(2,3) | (2,3) | (x,y)=(2,3)
(1,2),(3,4) | (1,2),(3,4) | (3,4),(1,2) | \{(1,2),(3,4)\}
(2,\frac{\pi}{3}) | (2,\pi/3) | \left(2,\frac{\pi}{3}\right)
# interval
[0,1] | [0,1] | \left[0,1\right] | [0, 1.0] | x\in[0,1] | [0,\frac{2}{2}]
(0,5] | (0,5] | \left(0,5\right] | (0, 5] | x \in (0,5]
[2,\infty) | [2,\infty) | \left[2,\infty\right) | [2, +\infty) | x\in [2,\infty)
(-\infty,\infty) | (-\infty,\infty) | \mathbb{R}
(-\infty,-3)\cup(3,\infty) | (3,\infty)\cup(-\infty,-3) | (-\infty,-3) \cup (3,\infty) | x\in(-\infty,-3)\cup(3,\infty)
[1,3] | [1,2]\cup[2,3] | [1,3]
[0,1)\cup\{2\} | \{2\}\cup[0,1) | [0,1)\cup\{2\}
(-\infty,0)\cup(0,\infty) | \mathbb{R}\setminus\{0\} | (0,\infty)\cup(-\infty,0)
[-\frac{1}{2},\frac{3}{2}) | [-0.5,1.5) | \left[-\frac12,\frac32\right)
# inequality
x > 2 | x>2 | 2<x | x-2>0 | (2,\infty) | -x<-2
x \le 5 | x \leq 5 | 5\ge x | x\leqslant 5 | (-\infty,5]
1 < x < 4 | 1<x<4 | (1,4) | x\in(1,4)
-2 \le x \le 2 | -2\leq x\leq 2 | [-2,2]
x \ne 1 | x\neq 1 | (-\infty,1)\cup(1,\infty)
0 < a \le 1 | 0<a\leq 1 | 0 < a \le 1
# equation
x = 5 | 5 | x=5 | x = 5.0 | x=\frac{10}{2} | x = 2+3
y = 2x+3 | y=2x+3 | 2x+3 | y=3+2x | y - 2x = 3
x+2y=7 | 2y+x=7 | 2x+4y=14 | x=7-2y | x+2y-7=0
x^2+y^2=25 | y^2+x^2=25 | x^2+y^2-25=0 | 25=x^2+y^2
f(x)=3x-1 | 3x-1 | f(x)=3x-1 | f(x)=-1+3x
a=1,b=2 | a=1, b=2 | b=2, a=1
12 | 3\cdot 4 = 12 | x=12 | 10+2=12
y = \frac{1}{2}x | y=\frac{x}{2} | \frac{x}{2} | y=0.5x
# polynomial
x^2+2x+1 | (x+1)^2 | x^2+2x+1 | 1+2x+x^2 | x(x+2)+1 | (x+1)(x+1)
a^2-b^2 | (a-b)(a+b) | (a+b)(a-b) | -b^2+a^2
2x^3-6x | 2x(x^2-3) | 2x^3 - 6x | -6x+2x^3
(x-1)(x-2)(x-3) | x^3-6x^2+11x-6 | (x-2)(x-1)(x-3)
\frac{x^2-1}{x-1} | x+1
\frac{1}{x}+\frac{1}{y} | \frac{x+y}{xy} | \frac{1}{y}+\frac{1}{x}
\frac{n(n+1)}{2} | \frac{n^2+n}{2} | \frac{1}{2}n(n+1) | n(n+1)/2
ab | ba | a\cdot b | a b
x_1+x_2 | x_2+x_1 | x_{1}+x_{2}
\alpha+\beta | \beta+\alpha
2^n | 2^n | 2\cdot 2^{n-1} | 2^{n}
\sqrt{xy} | \sqrt{yx} | (xy)^{1/2}
mgh | mgh | mhg
k\pi | k\pi | \pi k
# complex
3+4i | 3+4i | 4i+3
2-i | 2-i | -i+2
# matrix
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{bmatrix}1&2\\3&4\end{bmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix}1.0&2\\3&\frac{8}{2}\end{pmatrix}
\begin{pmatrix}-7\\16\\5\end{pmatrix} | \begin{pmatrix}-7\\16\\5\end{pmatrix} | \begin{bmatrix}-7\\16\\5\end{bmatrix}
\begin{pmatrix}1/2&0\\0&1/2\end{pmatrix} | \begin{pmatrix}\frac12&0\\0&\frac12\end{pmatrix} | \begin{pmatrix}0.5&0\\0&0.5\end{pmatrix} | \frac{1}{2}\begin{pmatrix}1&0\\0&1\end{pmatrix}
A=\begin{pmatrix}1&0\\0&1\end{pmatrix} | \begin{pmatrix}1&0\\0&1\end{pmatrix} | A=\begin{pmatrix}1&0\\0&1\end{pmatrix}
# text
\text{yes} | yes | \text{yes} | \text{Yes} | \mathrm{yes} | \text{YES}
\text{even} | \text{even} | even | \textbf{even}
\text{Monday} | \text{Monday} | Monday | \text{monday}
B | \text{B} | B | \textbf{B} | \mathrm{B} | (B) | \text{(B)}
\text{(C)} | C | (C) | \text{C}
\infty | \infty | +\infty
-\infty | -\infty
# base
101_2 | 101_2 | 101_{2} | 101
2A | 2A | 2\cdot A
# absolute
5 | |-5| | |5| | \left|-5\right|
|x| | |x| | \left|x\right| | |-x|
3 | \lfloor 3.7\rfloor | \lceil 2.1 \rceil
"""

OTHER = r"""
# number
7 | 8 | -7 | 70 | 0.7 | 7.1 | 77 | 7.01 | 6.999
-5 | 5 | -50 | 0.5 | -0.5
5 | -5 | 55 | 5.5 | 0
12345 | 1234 | 123,45 | 12.345 | 54321
0.5 | 0.05 | 5 | 0.55 | 50 | -0.5
0.1 | 0.01 | 1 | 0.10001 | 0.11
1000 | 100 | 10000 | 1,0000
3.14 | 3.141 | 3.1 | 314 | 3
# fraction
\frac{1}{2} | 1 | 2 | \frac{2}{1} | 12 | 1.2 | \frac{1}{3} | \frac{1}{20} | -\frac{1}{2} | 21
\frac{3}{8} | \frac{8}{3} | \frac{3}{80} | 38 | 3.8 | 0.38 | 0.3750001
\frac{1}{3} | 0.3 | 0.33 | 0.333 | 0.334 | 3 | 0.33334
\frac{2}{3} | 0.66 | 0.67 | 0.666 | \frac{3}{2} | 0.666666
\frac{x}{2} | 2x | \frac{2}{x} | x | \frac{x}{3}
# mixed
2\frac{1}{2} | 1 | 2 | \frac{1}{2} | \frac{21}{2} | \frac{3}{2}
1\frac{3}{4} | \frac{3}{4} | \frac{13}{4} | 1 | 1.34
# percent
50\% | 5\% | 5 | 0.05 | 500 | 5000 | 0.005 | 500\%
12.5\% | 1.25 | 12 | 125\% | 0.0125
# unit
12\text{ cm} | 13\text{ cm} | 120 | 1.2 | 12\text{ m} | 12\text{ kg}
2\sqrt{3}\text{ cm} | 2\sqrt{3} \text{ meters}
45 | 46\text{ miles} | 54
# degree
60^\circ | 30^\circ | 600 | 61^\circ
# root
\sqrt{5} | \sqrt{6} | 5 | 2.236 | \sqrt[3]{5} | -\sqrt{5} | 25
2\sqrt{3} | 3\sqrt{2} | \sqrt{6} | 2\sqrt{2} | 23 | \sqrt{3} | 6 | 3.46
\frac{\sqrt{2}}{2} | \sqrt{2} | \frac{2}{\sqrt{3}} | \frac{1}{2} | 0.7071
\sqrt[3]{2} | \sqrt{2} | 3\sqrt{2} | \frac{2}{3}
1+\sqrt{2} | 1-\sqrt{2} | \sqrt{3} | 2.41 | -1+\sqrt{2}
\sqrt{10001} | 100 | 100.005 | 100.00499
# power
10^2 | 102 | 20 | 12 | 10^3 | 1000 | 10\cdot 2
2^{10} | 210 | 20 | 1023 | 2^{11} | 10^2
2^{100} | 2^{100}+1 | 2^{99} | 2100 | 1267650600228229401496703205377
3.2 \times 10^5 | 3.2 | 3.2\times 10^4 | 3.2\times 10^6 | 32
10^{-7} | 2\cdot 10^{-7} | 10^{7} | 0
x^{12} | x^{1}2 | x^{21} | 12x | x^{11}
x^2 | 2x | x^3 | x2 | x
# pi
3\pi | 3 | \pi | 9.42 | 3\pi^2 | 2\pi | \frac{3}{\pi}
\pi | 3.14 | \frac{22}{7} | 3.1416 | 3 | 180
\frac{\pi}{4} | \frac{\pi}{2} | \frac{4}{\pi} | 45 | 0.785
# log
\ln 2 | \ln 3 | 2 | \log 2 | 0.693 | \log_2 e
\log_2 3 | \log_3 2 | \log_2 8 | 1.585
# trig
\frac{\sqrt{3}}{2} | \sin\frac{\pi}{6} | \tan\frac{\pi}{3}
\sin x | \cos x | \sin 2x | x
# factorial
5! | 5 | 120! | 60 | 4!
\frac{1}{2004!} | \frac{1}{2004} | \frac{1}{2004!}+1 | \frac{1}{2006!}
# set
\{1,2\} | \{1,3\} | \{1\} | \{1,2,3\} | 12 | 1 | (1,2) | [1,2] | \{-1,2\} | 3
\{1,2,3\} | \{1,2\} | \{1,2,4\} | 123 | 6
\emptyset | 0 | \{0\}
# list
2, 3 | 2 | 3 | 2,4 | 2,3,5 | 5 | 23 | 2.3 | 6 | [2,3]
-1, 5 | 1,5 | -1,-5 | 4 | -1
x=2 \text{ or } x=3 | x=2 | 2 | x=2 \text{ or } x=4
# sign
\pm 5 | 5 | -5 | 0 | \pm 6
3\pm\sqrt{2} | 3+\sqrt{2} | 3-\sqrt{2} | 3 | 2\pm\sqrt{3}
# tuple
(1,2) | [1,2] | (2,1) | \{1,2\} | (1,3) | (1,2,3) | 12 | 1 | (-1,2) | [1,2) | (12) | 2,1
(3,4) | (4,3) | 7 | (3,-4) | 34 | 3.4
(1,-2,5) | (1,2,5) | (1,-2) | (5,-2,1)
(x,y)=(2,3) | (3,2) | (x,y)=(3,2) | 2
# interval
[0,1] | (0,1) | [0,1) | (0,1] | [0,2] | [1,0] | 1 | 0
(0,5] | [0,5) | (0,5) | [0,5] | (0,6]
[2,\infty) | (2,\infty) | [2,3) | (-\infty,2] | 2 | [-2,\infty)
(-\infty,-3)\cup(3,\infty) | (-\infty,-3] \cup [3,\infty) | (-3,3) | (-\infty,-3) | (-\infty,3)\cup(3,\infty)
[1,3] | [1,2]\cup[2.5,3] | [1,2)\cup(2,3]
# inequality
x > 2 | x<2 | x\ge 2 | 2>x | x>3 | [2,\infty) | (-\infty,2) | 2 | y>2 | x=2
1 < x < 4 | 1\le x<4 | 1<x | 1<x<5 | [1,4] | 4
x \ne 1 | x = 1 | 1 | x \ne 2
# equation
x = 5 | x=-5 | y=5 | x=6 | 6 | -5 | x=55
y = 2x+3 | y=2x-3 | y=3x+2 | 2x | y=2x | 3 | x=2y+3
x+2y=7 | x+2y=8 | x-2y=7 | 7 | 2x+y=7 | x+2y
f(x)=3x-1 | f(x)=3x+1 | 3x | g(x)=3x-1
n=2,3,4 | n=1,2,3 | n=2,3 | 4
# polynomial
x^2+2x+1 | x^2+2x-1 | x^2+2x | (x-1)^2 | x^2+1 | x+1
a^2-b^2 | a^2+b^2 | (a-b)^2 | b^2-a^2 | a-b
\frac{1}{x}+\frac{1}{y} | \frac{1}{x+y} | \frac{2}{x+y} | \frac{xy}{x+y}
ab | a+b | a | a^2b | \frac{a}{b} | ac
2^n | n^2 | 2n | 2^{n+1} | 2^{-n}
x_1+x_2 | x_1-x_2 | x_1+x_3 | 2x_1 | x_1
\sqrt{x^2} | x | -x
# complex
3+4i | 3-4i | 4+3i | 5 | 7 | 3+4
# matrix
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&3\\2&4\end{pmatrix} | \begin{pmatrix}1&2\\3&5\end{pmatrix} | \begin{pmatrix}1&2&3&4\end{pmatrix} | -2 | \begin{pmatrix}1\\2\\3\\4\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1&2\end{pmatrix} | \begin{pmatrix}2\\1\end{pmatrix} | 12 | \frac{1}{2}
# text
\text{yes} | \text{no} | yesterday | \text{yes or no}
\text{east} | \text{west} | \text{seat} | seat
B | \text{C} | (A) | \text{(D)} | b | BB
\infty | -\infty | 0 | 1
# base
101_2 | 102 | 5 | 111_2 | 101_3
# time
12:00 | 1:00 | 12 | 12:01
# absolute
|x| | x | -x | |y|
"""

# Where math-verify errs: the reason, and the pairs (expected | stated).
SHORT = "TRL reads a completion without mending operators, so that \\frac12, \\sqrt5 and the like are lost there, not in a solution"
APART = {
    SHORT: r"""
\frac{3}{8} | \frac38
\frac{1}{2} | \frac 12 | \frac{1}2 | \frac1{2}
\sqrt{5} | \sqrt5
\frac{\sqrt{2}}{2} | \frac{\sqrt2}{2}
5\sqrt{2} | 5\sqrt2
\sqrt[3]{2} | 2^{\frac13}
\frac{-1+\sqrt{5}}{2} | -\frac12+\frac{\sqrt5}{2}
\frac{\pi}{4} | \frac14\pi
\ln 2 | -\ln\frac12
\frac{\pi}{6} | \arcsin \frac12
\frac{1\pm\sqrt{5}}{2} | \frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}
(\frac{1}{2},\sqrt{3}) | \left(\frac12,\sqrt3\right)
[-\frac{1}{2},\frac{3}{2}) | \left[-\frac12,\frac32\right)
\begin{pmatrix}1/2&0\\0&1/2\end{pmatrix} | \begin{pmatrix}\frac12&0\\0&\frac12\end{pmatrix}
""",
    "the word percent is lost as a unit": r"5\text{ percent} | 0.05",
    "floats of 15 digits are compared, and these differ in the last": r"6.02 \times 10^{23} | 60.2\times 10^{22}",
    "decimals are compared to six places, however many are written": r"""
\frac{3}{8} | 0.3750001
\sqrt{10001} | 100.005
\frac{1}{2004!} | \frac{1}{2006!}
""",
    "a pair has an order, a set has none": "\\{1,2\\} | (1,2)\n(1,2) | \\{1,2\\}",
    "a letter in another case is another symbol": "B | b",
    "the base of a number is lost": "101_2 | 101_3",
    "units are lost, also where they contradict": "12\\text{ cm} | 12\\text{ m} | 12\\text{ kg}\n2\\sqrt{3}\\text{ cm} | 2\\sqrt{3} \\text{ meters}",
}


def rows(text):
    kind = None
    for line in text.strip().split("\n"):
        if line.startswith("# "):
            kind = line[2:].strip()
        else:
            # "|" is a sign of formulas too, so the mark between two answers is " | ".
            gold, *others = [part.strip() for part in line.split(" | ")]
            yield kind, gold, others


def apart():
    for why, text in APART.items():
        for line in text.strip().split("\n"):
            gold, *others = [part.strip() for part in line.split(" | ")]
            for answer in others:
                yield (gold, answer), why


def verdict(gold, answer):
    return bool(accuracy_reward([[{"role": "assistant", "content": "We get \\boxed{%s}." % answer}]], ["$%s$" % gold])[0])


def main():
    out, problems, used, reasons = [], [], set(), dict(apart())
    for text, same in ((SAME, True), (OTHER, False)):
        for kind, gold, others in rows(text):
            for answer in others:
                judged = verdict(gold, answer)
                pair = {"kind": kind, "gold": gold, "answer": answer, "same": same, "math_verify": judged}
                if judged != same:
                    if (gold, answer) not in reasons:
                        problems.append(f"{kind}: {gold} | {answer}: math-verify says {judged}")
                    else:
                        used.add((gold, answer))
                        pair["why"] = reasons[gold, answer]
                out.append(pair)
    problems += [f"apart in vain: {pair}" for pair in reasons if pair not in used]
    if problems and "--list" not in sys.argv:
        raise SystemExit("\n".join(problems))
    print("\n".join(problems))
    with open(OUT, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(pair, ensure_ascii=False) for pair in out) + "\n]\n")
    print(len(out), "pairs,", sum("why" in pair for pair in out), "apart")


if __name__ == "__main__":
    main()
